"""A worker whose announcement nobody heard says it again soon, not only after half a minute."""

import time

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_node.presence import REPEAT_SECONDS
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.integration.compute_node.test_worker import worker_of, working
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer


async def test_lost_announcements_are_said_again_until_a_registry_answers(
    nats_server: NatsServer, bus: Bus
) -> None:
    heard: list[float] = []

    async def hears_the_third(message: Message) -> Message | None:
        heard.append(time.monotonic())
        return {"node_id": message["node_id"]} if len(heard) >= 3 else None

    await bus.subscribe(subjects.NODES_ANNOUNCE, hears_the_third)
    await bus.flush()
    worker = worker_of(nats_server)
    async with working(worker):
        await waiting.until(lambda: len(heard) == 3, REPEAT_SECONDS / 2)
        assert await worker.presence.tell()
    await waiting.until(lambda: len(heard) >= 5)
    assert len(heard) == 5  # the answered one ended it; then ours above, and the farewell


async def test_a_registry_that_comes_late_knows_the_worker_soon(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server, "early")
    async with working(worker):
        assert not await worker.presence.tell()  # at once: nobody listens
        registry = NodeRegistry(Settings.model_validate({"NATS_URL": nats_server.url, "NODE_ID": "late"}))
        async with serving(registry) as client:

            async def known() -> bool:
                return (await client.get("/api/v1/nodes/early")).status_code == 200

            await waiting.until(known, REPEAT_SECONDS / 2)
            assert await worker.presence.tell()
