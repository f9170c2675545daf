"""Two registries side by side: alike in their answers, one writes, one may die."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from compute_common import jetstream, subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer

EVERYBODY = {"online_only": False, "include_draining": True}


def registry(server: NatsServer) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": server.url, "NODE_ID": "registry"}))


@asynccontextmanager
async def replica(server: NatsServer) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "node_registry.app:app", "--port", "0", "--log-level", "warning"),
        env={**os.environ, "NATS_URL": server.url, "NODE_ID": "other", "LOG_LEVEL": "WARNING"},
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def heard(bus: Bus, subject: str) -> list[Message]:
    messages: list[Message] = []

    async def hear(body: Message) -> None:
        messages.append(body)

    await bus.subscribe(subject, hear)
    await bus.flush()
    return messages


async def test_one_change_one_event_and_one_answer(nats_server: NatsServer, bus: Bus) -> None:
    events = await heard(bus, subjects.NODES_EVENT)
    first, second = registry(nats_server), registry(nats_server)
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


async def test_killing_one_is_invisible_and_the_other_takes_over(nats_server: NatsServer, bus: Bus) -> None:
    async with replica(nats_server) as process:

        async def answers() -> bool:
            with contextlib.suppress(Problem):
                return bool(await bus.request(subjects.NODES_QUERY, EVERYBODY))
            return False

        await waiting.until(answers, 20)
        standby = registry(nats_server)
        async with serving(standby) as client:
            await client.post("/register", json={"node_id": "n1", "hostname": "h"})
            assert not standby.registrar.lease.held
            process.send_signal(signal.SIGKILL)
            killed, lost = time.monotonic(), 0
            while time.monotonic() - killed < 3:
                try:
                    answer = await bus.request(subjects.NODES_QUERY, EVERYBODY, 0.5)
                    assert answer["count"] == 1
                except Problem:
                    lost += 1  # one that the dead replica had taken already
                await asyncio.sleep(0.01)
            assert lost <= 1
            await waiting.until(lambda: standby.registrar.lease.held, 10)
            assert time.monotonic() - killed <= 10
    async with serving(registry(nats_server)) as client:
        assert (await client.get("/api/v1/nodes/n1")).status_code == 200, "the standby wrote it"


async def test_an_orderly_end_hands_the_lease_over(nats_server: NatsServer) -> None:
    standby = registry(nats_server)
    async with contextlib.AsyncExitStack() as ending:
        await ending.enter_async_context(serving(registry(nats_server)))
        async with serving(standby):
            assert not standby.registrar.lease.held
            await ending.aclose()
            await waiting.until(lambda: standby.registrar.lease.held, 3)


async def test_a_removal_missed_by_a_replica_is_not_undone(nats_server: NatsServer) -> None:
    away, here = registry(nats_server), registry(nats_server)
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
