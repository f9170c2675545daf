"""Submit, assign, complete: over REST and NATS, with the specification's own worker."""

import asyncio
import json
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.work_marshaling.cluster import (
    Registry,
    ended,
    marshaling,
    node_record,
    plain_worker,
    submit,
    until,
)
from tests.support.nats import NatsServer


async def echo(item: dict[str, Any]) -> Any:
    return {"echo": item["payload"]}


async def test_a_plain_worker_without_a_node_id_does_the_work(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (_, client):
        await registry.put("plain")
        work_id = await submit(client, payload={"n": 1}, priority=1, metadata={"who": "me"})
        item = await ended(client, work_id)
    assert item["status"] == "completed"
    assert item["result"] == {"echo": {"n": 1}}
    assert item["assigned_node"] == "plain"
    assert item["attempt"] == 1
    assert item["metadata"] == {"who": "me"}
    assert [step["event"] for step in item["history"]] == ["submitted", "assigned", "completed"]


async def test_the_assignment_carries_what_the_contract_names(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    seen: list[dict[str, Any]] = []
    await plain_worker(bus, echo, seen)
    async with marshaling(nats_server.url) as (_, client):
        await registry.put("plain")
        work_id = await submit(client, payload={"n": 1}, timeout_seconds=60)
        await ended(client, work_id)
    (message,) = seen
    assert message["work_id"] == message["request_id"] == work_id
    assert message["work_type"] == message["workload_type"] == "test"
    assert message["node_id"] == "plain"
    assert message["attempt"] == 1
    assert message["epoch"] > 0
    assert message["v"] == 1
    assert message["payload"] == {"n": 1}
    assert message["timeout_seconds"] == 60
    for name in ("assigned_at", "lease_expires_at", "expires_at"):
        assert message[name].endswith("Z")


async def test_a_submit_over_nats_is_named_by_its_receipt(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (_, client):
        await registry.put("plain")
        receipt = json.loads(
            (await bus.client.request(subjects.WORK_SUBMIT, b'{"work_type":"test","payload":{"n":7}}')).data
        )
        item = await ended(client, f"w-{receipt['seq']}")
        assert item["result"] == {"echo": {"n": 7}}
        status = await bus.request(subjects.WORK_STATUS, {"work_id": item["work_id"]})
        assert status["status"] == "completed"
        stats = await bus.request(subjects.WORK_STATUS, {})
        assert stats["completed"] == 1


async def test_what_was_published_while_the_service_was_away_is_done(
    nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url):
        pass
    await bus.publish(subjects.WORK_REQUEST, {"workload_type": "test", "request_id": "early", "payload": {}})
    await bus.flush()
    registry.nodes["plain"] = node_record("plain")
    async with marshaling(nats_server.url) as (_, client):
        assert (await ended(client, "early"))["status"] == "completed"


async def test_items_go_by_priority(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    seen: list[dict[str, Any]] = []
    await plain_worker(bus, echo, seen)
    async with marshaling(nats_server.url) as (_, client):
        ids = [await submit(client, priority=priority) for priority in (9, 5, 0, 5)]
        await registry.put("plain")
        for work_id in ids:
            await ended(client, work_id)
    assert [item["work_id"] for item in seen] == [ids[2], ids[1], ids[3], ids[0]]


async def test_why_it_waits_is_said_in_words(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("host", managed=True, work_types=["inference"], slots=4)
        await until(lambda: "host" in service.nodes.fleet.nodes)
        answer = await client.post(
            "/api/v1/work/submit",
            json={"work_type": "inference", "model_name": "llama-3-70b", "payload": {"prompt": "Hi"}},
        )
        assert answer.json()["warnings"] == ["waits: no ready instance of llama-3-70b; deploy it"]
        work_id = answer.json()["work_id"]
        item = (await client.get(f"/api/v1/work/{work_id}")).json()
        assert item["waiting_for"] == "no ready instance of llama-3-70b; deploy it"
        await registry.put("host", supported_models=["Llama-3-70B"])
        assigned = await _assigned(client, work_id)
        assert assigned["assigned_node"] == "host"
        assert assigned["waiting_for"] is None


async def _assigned(client: Any, work_id: str) -> dict[str, Any]:
    for _ in range(400):
        item: dict[str, Any] = (await client.get(f"/api/v1/work/{work_id}")).json()
        if item["status"] == "assigned":
            return item
        await asyncio.sleep(0.005)
    raise AssertionError("it was not assigned")


async def test_cancel_reaches_the_worker_and_a_late_result_changes_nothing(
    nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()
    stopped: list[dict[str, Any]] = []

    async def on_cancelled(message: dict[str, Any]) -> None:
        stopped.append(message)

    await bus.subscribe(subjects.WORK_CANCELLED, on_cancelled)
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("plain")
        work_id = await submit(client)
        await _assigned(client, work_id)
        answer = (await client.delete(f"/api/v1/work/{work_id}")).json()
        assert answer == {"work_id": work_id, "cancelled": True, "status": "cancelled"}
        await until(lambda: stopped)
        assert stopped[0]["work_id"] == work_id
        assert (stopped[0]["node_id"], stopped[0]["attempt"]) == ("plain", 1)
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": work_id, "result": "late"})
        await until(lambda: service.state.ignored["already-final"] == 1)
        item = (await client.get(f"/api/v1/work/{work_id}")).json()
        assert (item["status"], item["result"]) == ("cancelled", None)
        again = await bus.request(subjects.WORK_CANCEL, {"work_id": work_id})
        assert again["cancelled"] is True
