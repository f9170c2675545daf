"""Two registries side by side: alike in their answers, one writes, one may die."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
import pytest

from compute_common import jetstream, subjects, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.tasks import end_tasks
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.hearing import messages_on
from tests.support.nats import NatsServer

QUESTIONS_PER_S = 300
EVERYBODY = {"online_only": False, "include_draining": True}


def registry(server: NatsServer, replica: str = "", node_id: str = "registry") -> NodeRegistry:
    names = {"NODE_ID": node_id, "COMPUTE_REPLICA": replica}
    return NodeRegistry(Settings.model_validate({"NATS_URL": server.url, **names}))


@asynccontextmanager
async def replica(server: NatsServer, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "node_registry.app:app", "--port", "0", "--log-level", "warning"),
        env={
            **os.environ,
            "NATS_URL": server.url,
            "NODE_ID": "other",
            "COMPUTE_REPLICA": name,
            "LOG_LEVEL": "WARNING",
        },
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_one_change_one_event_and_one_answer(nats_server: NatsServer, bus: Bus) -> None:
    events = await messages_on(bus, subjects.NODES_EVENT)
    first, second = registry(nats_server, "one"), registry(nats_server, "two")
    async with serving(first) as one, serving(second) as two:
        assert (first.registrar.lease.held, second.registrar.lease.held) == (True, False)
        await two.post("/register", json={"node_id": "n1", "hostname": "h"})
        await waiting.until(lambda: "n1" in first.table)
        await one.post("/api/v1/nodes/n1/drain")
        await waiting.until(lambda: second.table.is_drained("n1"))
        answers = [(await client.post("/query", json=EVERYBODY)).json()["nodes"] for client in (one, two)]
        for nodes in answers:
            nodes[0].pop("registered_at")
        assert answers[0] == answers[1]
        await waiting.until(lambda: len(events) >= 2)
        assert [event["event"] for event in events] == ["joined", "draining"]


async def stream_of_questions(bus: Bus, seconds: float) -> list[str]:
    """Ask `QUESTIONS_PER_S` times a second, whoever may still be waiting; what became of each question."""
    outcomes: list[str] = []

    async def ask() -> None:
        try:
            answer = await bus.request(subjects.NODES_QUERY, EVERYBODY, 2.0)
        except Problem as problem:
            outcomes.append(problem.cause)
        else:
            outcomes.append("answered" if answer["count"] == 1 else f"{answer['count']} nodes")

    started, asked = time.monotonic(), 0
    async with asyncio.TaskGroup() as asking:
        while (passed := time.monotonic() - started) < seconds:
            for _due in range(int(passed * QUESTIONS_PER_S) - asked):
                asking.create_task(ask())
                asked += 1
            await asyncio.sleep(0.002)
    return outcomes


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
async def test_losing_a_replica_costs_no_question(
    nats_server: NatsServer, bus: Bus, end: signal.Signals
) -> None:
    async with replica(nats_server, "one") as one, replica(nats_server, "two") as two:
        await both_answer(bus)
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": "n1", "hostname": "h"})
        await both_answer(bus, count=1)
        asking = asyncio.create_task(stream_of_questions(bus, 4))
        await asyncio.sleep(1.5)
        one.send_signal(end)
        outcomes = Counter(await asking)
        assert set(outcomes) == {"answered"}
        assert outcomes.total() >= 3 * QUESTIONS_PER_S
        assert two.returncode is None


async def test_killing_the_writer_lets_the_other_take_over(nats_server: NatsServer, bus: Bus) -> None:
    async with replica(nats_server, "one") as process:

        async def answers() -> bool:
            with contextlib.suppress(Problem):
                return bool(await bus.request(subjects.NODES_QUERY, EVERYBODY))
            return False

        await waiting.until(answers, 20)
        standby = registry(nats_server, "two")
        async with serving(standby) as client:
            await client.post("/register", json={"node_id": "n1", "hostname": "h"})
            assert not standby.registrar.lease.held
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            await waiting.until(lambda: standby.registrar.lease.held, 10)
            assert time.monotonic() - killed <= 10
    async with serving(registry(nats_server)) as client:
        assert (await client.get("/api/v1/nodes/n1")).status_code == 200, "the standby wrote it"


async def test_a_killed_writer_publishes_again_as_soon_as_it_is_back(
    nats_server: NatsServer, bus: Bus
) -> None:
    events = await messages_on(bus, subjects.NODES_EVENT)

    async def is_told(node_id: str) -> bool:
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": node_id, "hostname": str(time.monotonic())})
        return any(event["node_id"] == node_id for event in events)

    async with replica(nats_server, "one") as process:
        await waiting.until(lambda: is_told("n1"), 20)
        process.kill()
    service = registry(nats_server, "one", "other")
    async with serving(service):
        assert service.registrar.lease.held
        await waiting.until(lambda: is_told("n2"), 1)


async def test_a_standby_writes_nothing_not_even_a_drain(nats_server: NatsServer, bus: Bus) -> None:
    one, two = registry(nats_server, "one"), registry(nats_server, "two")
    async with serving(one), serving(two) as standby:
        await standby.post("/register", json={"node_id": "n1", "hostname": "h"})
        await waiting.until(lambda: "n1" in one.table)
        assert (await standby.post("/api/v1/nodes/n1/drain")).json()["status"] == "draining"
        assert two.store.waiting == 2
        await waiting.until(lambda: one.table.is_drained("n1"))
        await one.store.flush()
        bucket = await bus.jetstream().key_value(jetstream.DRAINS_BUCKET)
        assert (await bucket.get("n1")).revision == 1, "written once, by the writer"


async def test_a_process_that_stood_still_blames_nobody(nats_server: NatsServer, bus: Bus) -> None:
    events = await messages_on(bus, subjects.NODES_EVENT)
    beating = asyncio.create_task(beats(bus, "n1"))
    try:
        async with replica(nats_server, "one") as process:
            await waiting.until(lambda: bool(events), 20)
            for _beat in range(2):
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(3)
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.7)
    finally:
        await end_tasks([beating])
    assert {event["event"] for event in events} <= {"joined", "updated"}


async def beats(bus: Bus, node_id: str) -> None:
    while True:
        node = {"node_id": node_id, "hostname": "h", "heartbeat_seconds": 0.2}
        await bus.publish(subjects.NODES_ANNOUNCE, node)
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": node_id})
        await asyncio.sleep(0.2)


async def both_answer(bus: Bus, count: int = 0) -> None:
    """Until one question has two answers, each with so many nodes."""

    async def is_so() -> bool:
        inbox = bus.client.new_inbox()
        subscription = await bus.client.subscribe(inbox)
        try:
            await bus.client.publish(subjects.NODES_QUERY, wire_json.dump(EVERYBODY), reply=inbox)
            answers = [(await subscription.next_msg(1)).data for _replica in range(2)]
        except nats.errors.TimeoutError:
            return False
        finally:
            await subscription.unsubscribe()
        return all(wire_json.parse_object(answer)["count"] == count for answer in answers)

    await waiting.until(is_so, 20)


async def test_an_orderly_end_hands_the_lease_over(nats_server: NatsServer) -> None:
    standby = registry(nats_server, "two")
    async with contextlib.AsyncExitStack() as ending:
        await ending.enter_async_context(serving(registry(nats_server)))
        async with serving(standby):
            assert not standby.registrar.lease.held
            await ending.aclose()
            await waiting.until(lambda: standby.registrar.lease.held, 3)


async def test_a_removal_missed_by_a_replica_is_not_undone(nats_server: NatsServer) -> None:
    away, here = registry(nats_server, "away"), registry(nats_server, "here")
    async with serving(here) as client:
        await client.post("/register", json={"node_id": "n1", "hostname": "h"})
        await here.store.flush()
        away.table.restore([record for row in here.table.rows() if (record := row.record)], [])
        await client.delete("/api/v1/nodes/n1")
        await here.store.flush()
        async with serving(away) as other:
            assert (await other.get("/api/v1/nodes/n1")).status_code == 404
    async with serving(registry(nats_server)) as client:
        assert (await client.get("/api/v1/nodes/n1")).status_code == 404
        await client.post("/register", json={"node_id": "n1", "hostname": "h"})
        assert (await client.get("/api/v1/nodes/n1")).status_code == 200, "its own word brings it back"
    async with serving(registry(nats_server)) as client:
        assert (await client.get("/api/v1/nodes/n1")).status_code == 200


async def test_a_tombstone_is_kept_in_the_bucket(nats_server: NatsServer, bus: Bus) -> None:
    service = registry(nats_server)
    async with serving(service) as client:
        await client.post("/register", json={"node_id": "n1", "hostname": "h"})
        await client.delete("/api/v1/nodes/n1")
        await service.store.flush()
        bucket = await bus.jetstream().key_value(jetstream.NODES_BUCKET)
        entry = await bucket.get("n1")
        assert entry.value is not None
        assert b"removed_at" in entry.value
