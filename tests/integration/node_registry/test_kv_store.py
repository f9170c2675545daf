"""The table's memory in a real bucket, when writing is interrupted."""

import asyncio
import signal

from compute_common.tasks import end_tasks
from node_registry.kv_store import BATCH
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.unit.node_registry.builders import document


async def test_a_flush_that_is_cut_off_forgets_nothing(nats_server: NatsServer) -> None:
    assert nats_server.process is not None
    service = NodeRegistry(
        Settings.model_validate({"NATS_URL": nats_server.url, "NODE_REGISTRY_FLUSH_SECONDS": 600})
    )
    async with serving(service):
        for number in range(2 * BATCH):
            await service.registrar.announce(document(f"n{number}"), by_bus=True)
        assert service.store.waiting == 2 * BATCH
        nats_server.process.send_signal(signal.SIGSTOP)
        try:
            flushing = asyncio.create_task(service.store.flush())
            await waiting.until(lambda: service.store.waiting == BATCH)
            await end_tasks([flushing])
            assert service.store.waiting == 2 * BATCH
        finally:
            nats_server.process.send_signal(signal.SIGCONT)
        await service.store.flush()
        assert service.store.waiting == 0
    again = NodeRegistry(Settings.model_validate({"NATS_URL": nats_server.url}))
    async with serving(again):
        await waiting.until(lambda: len(again.table) == 2 * BATCH)
