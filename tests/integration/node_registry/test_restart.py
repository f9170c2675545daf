"""Three hundred living nodes: everything is known again after a restart, and told spread out."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from compute_common import jetstream, subjects
from compute_common.bus import Bus, Message
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.living_fleet import LivingFleet
from tests.support.nats import NatsServer

NODES = 300


def registry(server: NatsServer) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": server.url, "NODE_ID": "registry"}))


@asynccontextmanager
async def living_fleet(server: NatsServer) -> AsyncIterator[LivingFleet]:
    documents = [
        {"node_id": f"node-{number:03}", "hostname": "h", "heartbeat_seconds": 1} for number in range(NODES)
    ]
    fleet = LivingFleet(server.url, documents, connections=10, beat_seconds=1)
    await fleet.start()
    running = asyncio.create_task(fleet.run())
    try:
        yield fleet
    finally:
        running.cancel()
        await fleet.stop()


async def until_all_online(client: httpx.AsyncClient, seconds: float = 10) -> None:
    async def are() -> bool:
        stats = (await client.get("/api/v1/stats")).json()
        return bool((stats["total_nodes"], stats["online_nodes"]) == (NODES, NODES))

    await waiting.until(are, seconds)


async def test_a_registry_whose_store_is_lost_hears_everybody_once(nats_server: NatsServer, bus: Bus) -> None:
    questions: list[Message] = []

    async def asked(body: Message) -> None:
        questions.append(body)

    async with living_fleet(nats_server) as fleet:
        async with serving(registry(nats_server)) as client:
            await until_all_online(client)
        for bucket in (jetstream.NODES_BUCKET, jetstream.DRAINS_BUCKET):
            await bus.jetstream().delete_key_value(bucket)
        await bus.subscribe(subjects.NODES_REANNOUNCE, asked)
        await bus.flush()
        before, started = len(fleet.announced_at), time.monotonic()
        async with serving(registry(nats_server)) as client:
            await until_all_online(client)
        assert time.monotonic() - started <= 10
        assert len(fleet.announced_at) - before <= 1.5 * NODES, "nobody who is about to answer is asked again"
        assert sum(question["node_id"] == "*" for question in questions) == 1
        assert len(questions) <= 1 + 10 * (time.monotonic() - started + 1), "questions aloud reach everybody"


async def test_a_killed_nats_server_costs_no_node_and_no_stampede(nats_server: NatsServer) -> None:
    async with living_fleet(nats_server) as fleet, serving(registry(nats_server)) as client:
        await until_all_online(client)
        nats_server.stop(kill=True)
        await asyncio.sleep(1)
        before, back_at = len(fleet.announced_at), time.time()
        nats_server.start()
        await waiting.until(lambda: len(fleet.announced_at) >= before + NODES)
        told = sorted(fleet.announced_at[before:])
        assert told[NODES - 1] - back_at <= 10
        quarters = [int((at - back_at) * 4) for at in told]
        assert max(quarters.count(quarter) for quarter in set(quarters)) <= NODES / 3
        await until_all_online(client, 1)
