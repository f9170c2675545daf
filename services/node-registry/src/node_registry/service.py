"""The node registry as a service: table, store, NATS and HTTP wired together."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Sequence

import structlog
from fastapi import APIRouter

from compute_common.jetstream import DRAINS_BUCKET, NODES_BUCKET
from compute_common.lease import Lease
from compute_common.shell import Service
from compute_common.shell.nats_metrics import StreamWatch
from compute_common.shell.service import Check
from compute_common.shell.session import session_router
from compute_common.tasks import end_tasks, every
from node_registry import routes
from node_registry.bus_handlers import BusHandlers
from node_registry.event_stream import EventStream
from node_registry.metrics import NodesCollector, events_counter
from node_registry.registrar import WRITER, Registrar
from node_registry.server_figures import ServerFigures
from node_registry.settings import Settings
from node_registry.status.feed import Feed
from node_registry.status.routes import status_router
from node_registry.status.watch import Watch
from node_registry.stores import store_for
from node_registry.system_events import SystemEvents
from node_registry.table import NodeTable

log = structlog.get_logger("registry")

TICK_SECONDS = 0.25
REPLAY_SECONDS = 10.0
# A full collection over ten thousand nodes stops everything for half a second, and finds nothing: records
# hold no cycles. Young garbage (of requests) is still collected.
GC_THRESHOLDS = (50_000, 20, 1000)


class NodeRegistry(Service):
    name = "node-registry"
    title = "Node registry"
    description = "Who is out there, what can they do, are they alive."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.table = NodeTable(settings.register_ttl_seconds, settings.max_nodes, settings.max_document_bytes)
        registry = self.metrics.registry
        self.stream = EventStream()
        self.store = store_for(settings, self.bus, self.table, registry)
        self.registrar = Registrar(
            self.bus,
            self.table,
            self.store,
            self.stream,
            events=events_counter(registry),
            lease=Lease(self.bus, WRITER, self.replica_name()),
        )
        self._handlers = BusHandlers(self.registrar, self.table)
        registry.register(NodesCollector(self.table.rows, time.monotonic))
        buckets = [f"KV_{bucket}" for bucket in (NODES_BUCKET, DRAINS_BUCKET)]
        self._streams = StreamWatch(self.name, self.bus, buckets)
        registry.register(self._streams)
        self.system_events = SystemEvents(settings)
        self._servers = ServerFigures(self.system_events.ask)
        registry.register(self._servers)
        self._watch = Watch(self.bus, self.table)
        self._feed = Feed(self.table, self._watch)
        self._replayed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def routers(self) -> Sequence[APIRouter]:
        return [
            status_router(self._feed),
            session_router(self.settings.key_ring()),
            *routes.routers(self.registrar, self.table, self.stream),
        ]

    def checks(self) -> dict[str, Check]:
        return {
            "storage": Check(self._storage, required=False),
            "disconnect_events": Check(self.system_events.check, required=False),
        }

    def is_ready(self) -> bool:
        return self._replayed.is_set() or not self.bus.connected

    async def start(self) -> None:
        gc.set_threshold(*GC_THRESHOLDS)
        await self._handlers.subscribe(self.bus)
        self.bus.on_connect(self._on_connect)
        await self.system_events.start()
        self._streams.start()
        await self._watch.start()
        await self._feed.start()
        self._servers.start()
        if self.bus.connected:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._replayed.wait(), REPLAY_SECONDS)
        self._tasks = [
            asyncio.create_task(every(TICK_SECONDS, self._tick), name="tick"),
            asyncio.create_task(every(self.settings.flush_seconds, self.registrar.write), name="flush"),
            asyncio.create_task(every(WRITER.renew_seconds, self._renew), name="lease"),
        ]

    async def stop(self) -> None:
        await end_tasks(self._tasks)
        await self._feed.stop()
        await self._watch.stop()
        await self._streams.stop()
        await self._servers.stop()
        self.stream.close()
        await self.system_events.stop()
        await self.store.close(write=self.registrar.is_writer)
        await self.registrar.lease.release()

    async def _renew(self) -> None:
        await self.registrar.lease.step()

    async def _tick(self) -> None:
        if self.bus.connected:
            for node_id, since in self.system_events.gone(time.monotonic()):
                await self.registrar.connection_lost(node_id, since)
            for node_id in self.system_events.new_accounts():
                await self.registrar.has_account(node_id)
        await self.registrar.tick()

    async def _on_connect(self) -> None:
        """Bring back what is stored, then let everybody announce themselves again."""
        try:
            await self.registrar.lease.step()
            restored = await self.registrar.read_store()
            log.info("store read", restored=restored, nodes=len(self.table))
        finally:
            if not self._replayed.is_set():
                await self._handlers.serve(self.bus)  # not before: half a table is no answer
                self._replayed.set()
        await self.registrar.ask_all_to_announce()

    async def _storage(self) -> tuple[bool, str | None]:
        return self.store.health()
