"""Time limits, bad starts, poison, warnings, forged decisions, nodes with subjects of their own."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.work_marshaling.cluster import Registry, ended, marshaling, plain_worker, submit, until
from tests.integration.work_marshaling.history import judged, records_of
from tests.support.nats import NatsServer


async def echo(item: dict[str, Any]) -> Any:
    return {"echo": item["payload"]}


async def test_an_item_waits_in_the_queue_as_long_as_it_may(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (_, client):
        await registry.put("plain", work_types=["test"])
        item = await ended(client, await submit(client, work_type="rare", queue_timeout_seconds=0.3))
        assert (item["status"], item["error_message"]) == (
            "failed",
            "queue-timeout: no node took it within 0.3 s",
        )
        quick = await submit(client, queue_timeout_seconds=30)
        assert (await ended(client, quick))["status"] == "completed"
        assert (await client.get("/api/v1/stats")).json()["timed_out"] == 1


@pytest.mark.parametrize(("ahead", "words"), [(-86_400, "in the past"), (86_400 * 4000, "too far ahead")])
async def test_a_start_out_of_bounds_is_refused(
    nats_server: NatsServer, bus: Bus, ahead: int, words: str
) -> None:
    when = (datetime.now(UTC) + timedelta(seconds=ahead)).isoformat()
    async with marshaling(nats_server.url) as (_, client):
        body = {"work_type": "test", "work_id": "a", "not_before": when}
        answer = await client.post("/api/v1/work/submit", json=body)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
        if ahead > 0:  # found in the log nobody can be told, so the item says it
            await bus.client.request(subjects.WORK_SUBMIT, json.dumps(body).encode())
            assert (await ended(client, "a"))["error_message"].startswith("not-before-too-far")
        soon = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
        assert (await client.post("/api/v1/work/submit", json={**body, "not_before": soon})).status_code in (
            202,
            409,
        )


async def test_a_wish_nobody_can_fulfil_is_accepted_with_a_warning(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("plain")
        await until(lambda: "plain" in service.nodes.fleet.nodes)
        body = {"work_type": "test", "requirements": {"min_vram_gb": 500_000}}
        answer = await client.post("/api/v1/work/submit", json=body)
        assert answer.status_code == 202
        assert answer.json()["warnings"] == ["waits: no online node has a GPU with 500000 GB"]


async def test_poison_is_set_aside_and_run_again_on_request(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    healed = False

    async def work(message: dict[str, Any]) -> None:
        report = {key: message[key] for key in ("work_id", "node_id", "attempt")}
        if healed:
            await bus.publish(subjects.WORK_COMPLETED, {**report, "result": "fine"})
        else:
            await bus.publish(subjects.WORK_FAILED, {**report, "error": f"broke on {message['node_id']}"})

    await bus.subscribe(subjects.WORK_ASSIGNED, work)
    values = {"WORK_RETRY_DELAY": 0.01, "WORK_BLACKLIST_FAILURES": 1}
    async with marshaling(nats_server.url, **values) as (service, client):
        for name in ("a", "b", "c", "d"):
            await registry.put(name)
        work_id = await submit(client, max_retries=50)
        item = await ended(client, work_id)
        assert (item["status"], item["set_aside"], item["attempt"]) == ("failed", True, 3)
        assert item["error_message"].startswith("set aside: it failed on ")
        assert len({step["node_id"] for step in item["history"] if step["event"] == "failed"} - {None}) == 3
        assert (await client.get("/api/v1/blacklist")).json()["nodes"] == []  # the item is to blame
        listed = (await client.get("/api/v1/work", params={"set_aside": "true"})).json()["items"]
        assert [each["work_id"] for each in listed] == [work_id]
        assert (await client.get("/api/v1/work", params={"set_aside": "false"})).json()["items"] == []
        assert "compute_work_set_aside 1.0" in (await client.get("/metrics")).text
        healed = True
        again = (await client.post(f"/api/v1/work/{work_id}/retry")).json()["work_id"]
        assert (await ended(client, again))["result"] == "fine"
        assert service.state.items[work_id].poison


async def test_forged_decisions_change_nothing_and_are_counted(nats_server: NatsServer, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    async with marshaling(nats_server.url) as (service, client):
        held = await submit(client, work_id="held")
        waits = await submit(client, work_id="waits", work_type="rare")
        await registry.put("n", fenced=True, work_types=["test"], slots=4)
        item = await until(lambda: service.state.items[held].delivered and service.state.items[held])
        epoch, leader = service.state.epoch, service.state.leader
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        gift = {"work_id": waits, "node_id": "evil", "attempt": 1, "epoch": epoch, "expires_at": later}
        end = {"work_id": held, "attempt": 1, "error": "x", "final": True, "by": "work-marshaling"}
        again = {"work_id": held, "attempt": 1, "not_before": later, "reason": "x"}
        lead = {"decision": "lead", "by": "evil", "epoch": 1 << 53}
        decide = {"decision": "decide", "by": leader, "epoch": epoch, "assign": [gift], "fail": [end]}
        for subject, body in (
            (subjects.WORK_ASSIGNED, gift),
            ("compute.node.evil.assigned", gift),
            (subjects.WORK_FAILED, end),
            (subjects.WORK_RETRIED, again),
            (subjects.WORK_DECIDED, lead),
            (subjects.WORK_DECIDED, decide),
        ):
            await bus.publish(subject, body)
        await until(lambda: service.state.ignored["forged-decision"] == 6)
        assert (service.state.epoch, service.state.leader) == (epoch, leader)
        assert (item.status.value, item.holder, service.state.items[waits].status.value) == (
            "assigned",
            "n",
            "pending",
        )
        more = await submit(client, work_id="more")  # and the leader goes on behind what was forged
        await until(lambda: service.state.items[more].holder == "n")
        for work_id in (held, more):
            await bus.publish(subjects.WORK_COMPLETED, {"work_id": work_id, "node_id": "n", "attempt": 1})
            assert (await ended(client, work_id))["status"] == "completed"
        assert service.dispatcher.leading
    judged(await records_of(bus))


async def test_a_forged_claim_costs_the_leader_a_moment(nats_server: NatsServer, bus: Bus) -> None:
    """One in the same account that imitates the protocol wholly: the lease's holder takes the lead back."""
    registry = Registry(bus)
    await registry.start()
    await plain_worker(bus, echo)
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("plain", slots=4)
        await ended(client, await submit(client))
        headers = {"Nats-Expected-Last-Subject-Sequence": str(service.state.leadership.decided_seq)}
        claim = json.dumps({"decision": "lead", "by": "evil", "epoch": 0}).encode()
        await bus.jetstream().publish(subjects.WORK_DECIDED, claim, headers=headers)
        assert (await ended(client, await submit(client)))["status"] == "completed"
        assert service.dispatcher.leading


async def test_a_node_with_subjects_of_its_own_is_addressed_there_alone(
    nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()
    heard: dict[str, list[dict[str, Any]]] = {"own": [], "shared": [], "cancelled": []}

    def hear(name: str) -> Any:
        async def note(message: dict[str, Any]) -> None:
            heard[name].append(message)

        return note

    await bus.subscribe("compute.node.box=2E1.assigned", hear("own"))
    await bus.subscribe(subjects.WORK_ASSIGNED, hear("shared"))
    await bus.subscribe("compute.node.box=2E1.cancelled", hear("cancelled"))
    async with marshaling(nats_server.url) as (service, client):
        await registry.put("box.1", own_subjects=True, slots=4)
        done, dropped = await submit(client, payload={"n": 1}), await submit(client)
        await until(lambda: len(heard["own"]) == 2)
        assert heard["own"][0]["payload"] == {"n": 1}
        await bus.publish(
            "compute.node.box=2E1.progress",
            {"work_id": done, "node_id": "box.1", "attempt": 1, "progress": 0.5},
        )
        await until(lambda: service.state.items[done].heard_at)
        assert (await client.get(f"/api/v1/work/{done}")).json()["progress"] == 0.5
        await bus.publish("compute.node.box=2E1.completed", {"work_id": done, "result": 7})
        assert (await ended(client, done))["result"] == 7
        await client.delete(f"/api/v1/work/{dropped}")
        await until(lambda: [each["work_id"] for each in heard["cancelled"]] == [dropped])
        failing = await submit(client, max_retries=0)
        await until(lambda: len(heard["own"]) == 3)
        await bus.publish("compute.node.box=2E1.failed", {"work_id": failing, "error": "no"})
        assert (await ended(client, failing))["error_message"] == "no"
        await registry.put("box.1", own_subjects=False)
        last = await submit(client)
        await until(lambda: [each["work_id"] for each in heard["shared"]] == [last])
        await asyncio.sleep(0)
        assert len(heard["own"]) == 3
