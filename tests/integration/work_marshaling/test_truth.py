"""Exactly one end per item: forged, late, malformed messages; conflicts; full queues; lost nodes."""

import json
import time
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from tests.integration.work_marshaling.cluster import (
    Registry,
    ended,
    marshaling,
    plain_worker,
    submit,
    until,
)
from tests.support import waiting
from tests.support.nats import NatsServer


async def echo(item: dict[str, Any]) -> Any:
    return {"echo": item["payload"]}


async def held(service: Any, work_id: str) -> Any:
    return await until(lambda: service.state.items[work_id].holder and service.state.items[work_id])


async def test_only_the_holder_of_the_current_attempt_ends_an_item(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("a.b", fenced=True)
        work_id = await submit(client)
        await held(service, work_id)
        ignored = service.state.ignored
        for body in (
            {"work_id": work_id, "result": "unsigned"},
            {"work_id": work_id, "result": "foreign", "node_id": "c"},
            {"work_id": work_id, "result": "old", "node_id": "a.b", "attempt": 7},
            {"work_id": "nobody", "result": "unknown", "node_id": "a.b"},
        ):
            await bus.publish(subjects.WORK_COMPLETED, body)
        # the subject's node is the truth, whatever the body says
        await bus.publish("compute.node.evil.completed", {"work_id": work_id, "result": 1, "node_id": "a.b"})
        await bus.publish(
            "compute.node.a=2Eb.completed", {"work_id": work_id, "result": "mine", "attempt": 1}
        )
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": work_id, "result": "again", "node_id": "a.b"})
        item = await ended(client, work_id)
        await until(lambda: ignored["already-final"] == 1)
    assert item["result"] == "mine"
    assert {key: ignored[key] for key in ("unsigned", "foreign-node", "stale-attempt", "unknown-item")} == {
        "unsigned": 1,
        "foreign-node": 2,
        "stale-attempt": 1,
        "unknown-item": 1,
    }


async def test_malformed_messages_are_counted_and_harm_nothing(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("plain")
        for subject in (
            *(use for use in _log_subjects()),
            "compute.node.x.completed",
            "compute.work.test.v1",
        ):
            for data in (
                b"",
                b"\xff\xfe",
                b'{"work_id":',
                b"[]",
                b'{"work_id":"../../x"}',
                b"{}",
                b"9" * 10_000,
            ):
                await bus.client.publish(subject, data)
        for data in (b"", b"\xff", b"[]", b'{"work_id":"../../x"}'):
            await bus.client.publish(subjects.WORK_CANCEL, data)
            answer = json.loads((await bus.client.request(subjects.WORK_CANCEL, data)).data)
            assert answer["status"] in (400, 422)
        item = await ended(client, await submit(client, payload={"n": 1}))
        assert item["status"] == "completed"
        assert service.state.ignored["malformed-json"] > 0
        assert service.state.ignored["invalid-fields"] > 0
        assert service.state.ignored["internal"] == 0
        metrics = (await client.get("/metrics")).text
    assert 'compute_work_ignored_total{reason="malformed-json"}' in metrics
    assert "compute_work_pending 0.0" in metrics
    assert "compute_work_active 0.0" in metrics


def _log_subjects() -> list[str]:
    return [
        subjects.WORK_SUBMIT,
        subjects.WORK_REQUEST,
        subjects.WORK_ASSIGNED,
        subjects.WORK_COMPLETED,
        subjects.WORK_FAILED,
        subjects.WORK_PROGRESS,
        subjects.WORK_CANCELLED,
        subjects.WORK_RETRIED,
        subjects.WORK_DECIDED,
    ]


async def test_a_lost_node_loses_its_work_to_another(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("first")
        work_id = await submit(client)
        await held(service, work_id)
        await registry.put("second")
        await registry.offline("first")
        await until(lambda: service.state.items[work_id].holder == "second")
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": work_id, "result": 1, "node_id": "first"})
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": work_id, "result": 2, "node_id": "second"})
        item = await ended(client, work_id)
    assert (item["result"], item["attempt"], item["retry_count"]) == (2, 2, 1)
    assert "node first went offline" in [step["reason"] for step in item["history"]]


async def test_a_silent_holder_and_a_slow_one_lose_the_item(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    values = {"WORK_SILENCE_SECONDS": 0.3, "WORK_RETRY_DELAY": 0.01}
    async with marshaling(nats_server.url, **values) as (service, client):
        await registry.put("plain", slots=2)
        silent = await submit(client, max_retries=0)
        slow = await submit(client, timeout_seconds=0.5, max_retries=0)
        await held(service, silent)
        await bus.publish(subjects.WORK_PROGRESS, {"work_id": silent, "node_id": "plain", "attempt": 1})
        silent_item, slow_item = await ended(client, silent), await ended(client, slow)
        stats = (await client.get("/api/v1/stats")).json()
    assert silent_item["error_message"] == "node plain has been silent for 0.3 s"
    assert slow_item["error_message"] == "timeout: no result within 0.5 s"
    assert (stats["failed"], stats["timed_out"]) == (2, 2)


async def test_the_same_id_is_the_same_item_and_another_body_is_refused(
    nats_server: NatsServer, bus: Bus
) -> None:
    async with marshaling(nats_server.url) as (service, client):
        body = {"work_type": "test", "work_id": "mine", "payload": {"a": 1, "b": 2}}
        first = await client.post("/api/v1/work/submit", json=body)
        again = await client.post("/api/v1/work/submit", json={**body, "payload": {"b": 2, "a": 1}})
        other = await client.post("/api/v1/work/submit", json={**body, "payload": {"a": 2}})
        assert (first.status_code, again.status_code, other.status_code) == (202, 202, 409)
        assert first.json()["submitted_at"] == again.json()["submitted_at"]
        assert other.json()["type"] == "urn:compute:error:different-body"
        keyed = [{"work_type": "test", "idempotency_key": "k", "payload": {"n": n}} for n in (1, 1, 2)]
        answers = [await client.post("/api/v1/work/submit", json=item) for item in keyed]
        assert [answer.status_code for answer in answers] == [202, 202, 409]
        assert answers[0].json()["work_id"] == answers[1].json()["work_id"]
        await bus.publish(subjects.WORK_SUBMIT, {**body, "payload": {"a": 3}})
        await until(lambda: service.state.ignored["conflicting-submit"] == 1)
        reserved = await client.post("/api/v1/work/submit", json={"work_type": "test", "work_id": "w-999"})
        assert reserved.status_code == 422
        assert len(service.state.items) == 2


async def test_a_full_queue_says_when_to_come_back(nats_server: NatsServer) -> None:
    async with marshaling(nats_server.url, WORK_MAX_PENDING=2) as (_, client):
        await submit(client)
        await submit(client)
        refused = await client.post("/api/v1/work/submit", json={"work_type": "test"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "5"


async def test_an_oversized_item_ends_failed(nats_server: NatsServer, bus: Bus) -> None:
    async with marshaling(nats_server.url, WORK_MAX_PAYLOAD_BYTES=4096) as (_, client):
        body = {"work_type": "test", "work_id": "big", "payload": {"x": "y" * 5000}}
        refused = await client.post("/api/v1/work/submit", json=body)
        assert refused.status_code == 413
        await bus.client.request(subjects.WORK_SUBMIT, json.dumps(body).encode())
        item = await ended(client, "big")
    assert item["status"] == "failed"
    assert item["error_message"].startswith("payload-too-large")


async def test_three_failures_set_a_node_aside_and_forgiving_takes_it_back(
    nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()

    async def fail(message: dict[str, Any]) -> None:
        report = {key: message[key] for key in ("work_id", "node_id", "attempt")}
        await bus.publish(subjects.WORK_FAILED, {**report, "error": "broken"})

    await bus.subscribe(subjects.WORK_ASSIGNED, fail)
    async with marshaling(nats_server.url, WORK_RETRY_DELAY=0.01) as (service, client):
        await registry.put("bad")
        work_id = await submit(client, max_retries=20)
        await until(lambda: service.state.items[work_id].retries == 3)
        entry = (await client.get("/api/v1/blacklist")).json()["nodes"][0]
        assert (entry["node_id"], entry["failures"], entry["reason"]) == ("bad", 3, "test: broken")
        item = (await client.get(f"/api/v1/work/{work_id}")).json()
        await until(lambda: "set aside" in _words(service, work_id))
        assert item["status"] == "pending"
        assert (await client.delete("/api/v1/blacklist/bad")).status_code == 200
        await until(lambda: service.state.items[work_id].retries == 6)
        assert (await client.delete("/api/v1/blacklist/nobody")).status_code == 404


def _words(service: Any, work_id: str) -> str:
    return str(service.dispatcher.waiting_for(service.state.items[work_id], time.time()))


async def test_lists_batches_stats_and_running_again(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (_, client):
        items = [{"work_type": "test", "payload": {"n": n}} for n in range(5)]
        answer = await client.post("/api/v1/work/submit-batch", json={"items": items})
        assert (answer.status_code, answer.json()["count"]) == (202, 5)
        ids = [item["work_id"] for item in answer.json()["items"]]
        page = (await client.get("/api/v1/work", params={"status": "active", "limit": 2})).json()
        assert [item["work_id"] for item in page["items"]] == ids[:2:-1]
        rest = (await client.get("/api/v1/work", params={"cursor": page["next_cursor"]})).json()
        assert [item["work_id"] for item in rest["items"]] == ids[2::-1]
        assert "next_cursor" not in rest or rest["next_cursor"] is None
        await registry.put("plain", slots=3)
        for work_id in ids:
            await ended(client, work_id)
        several = await client.get(
            "/api/v1/work", params={"status": ["COMPLETED", "failed"], "node_id": "plain"}
        )
        assert several.json()["count"] == 5
        again = (await client.post(f"/api/v1/work/{ids[3]}/retry")).json()
        item = await ended(client, again["work_id"])
        assert item["metadata"] == {"retry_of": ids[3]}
        assert item["result"] == {"echo": {"n": 3}}
        stats = (await client.get("/api/v1/stats")).json()
        assert (stats["total_requests"], stats["completed"], stats["pending"]) == (6, 6, 0)
        assert stats["avg_assignment_time_ms"] >= 0
        known = (await client.get("/api/v1/subjects")).json()["subjects"]
        assert subjects.WORK_SUBMIT in {use["subject"] for use in known}


async def test_hostile_names_and_unknown_items(nats_server: NatsServer) -> None:
    async with marshaling(nats_server.url) as (_, client):
        for name in ("..%2F..%2Fx", "a;rm%20-rf", "x" * 10_000, "w%0a", "%00"):
            for method in ("GET", "DELETE"):
                answer = await client.request(method, f"/api/v1/work/{name}")
                assert answer.status_code in (404, 422), (name, answer.status_code)
        assert (await client.get("/api/v1/work/nobody")).status_code == 404
        for body in (b"{", b"\xff", b"[]", b'{"work_type": 5}', b'{"work_type":"x","priority":10}'):
            assert (await client.post("/api/v1/work/submit", content=body)).status_code in (400, 422)
        assert (await client.get("/api/v1/work", params={"cursor": "x"})).status_code == 422


async def test_the_log_is_purged_up_to_the_oldest_item_kept(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    values = {"WORK_RETENTION_HOURS": 0.1 / 3600, "WORK_PURGE_SECONDS": 0.1, "WORK_SNAPSHOT_RECORDS": 1}
    async with marshaling(nats_server.url, **values) as (service, client):
        await registry.put("plain", work_types=["test"])
        for _ in range(3):
            await submit(client)
        kept = await submit(client, work_type="other")
        await until(lambda: len(service.state.items) == 1)
        seq = service.state.items[kept].seq

        async def purged() -> bool:
            return (await bus.jetstream().stream_info(WORK_STREAM)).state.first_seq == seq

        await waiting.until(purged)
    async with marshaling(nats_server.url) as (service, client):
        assert (await client.get(f"/api/v1/work/{kept}")).json()["status"] == "pending"
        assert (await client.get("/readyz")).status_code == 200
        stats = (await client.get("/api/v1/stats")).json()
        assert (stats["total_requests"], stats["avg_completion_time_ms"] is None) == (4, False)
