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
        await waiting.until(lambda: service.store.health()[0])
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


async def test_a_store_that_could_not_be_read_is_read_again(nats_server: NatsServer) -> None:
    """A reading that failed is not the last word, though the connection never broke."""
    assert nats_server.process is not None
    settings = {"NATS_URL": nats_server.url, "NODE_REGISTRY_FLUSH_SECONDS": 600}
    service = NodeRegistry(Settings.model_validate(settings))
    async with serving(service):
        await waiting.until(lambda: service.store.health()[0])
        nats_server.process.send_signal(signal.SIGSTOP)
        try:
            await service.store.reload()
        finally:
            nats_server.process.send_signal(signal.SIGCONT)
        assert not service.store.health()[0]
        await service.registrar.write()
        assert service.store.health()[0]
