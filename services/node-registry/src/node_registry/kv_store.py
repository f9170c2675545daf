"""The table's memory in JetStream KV, one bucket for nodes and one for drains."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import nats.errors
import nats.js.errors
import structlog
from nats.js.kv import KeyValue
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from compute_common import jetstream, subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from node_registry.records import Moment
from node_registry.store import SLICE, Loaded, Store
from node_registry.stored import (
    StoredDrain,
    from_stored,
    removal_from_stored,
    removal_to_stored,
    to_stored,
)
from node_registry.table import NodeTable
from node_registry.tombstones import TOMBSTONE_SECONDS

log = structlog.get_logger("store")

BATCH = 128
READ_TIMEOUT_SECONDS = 5.0
_FAILURES = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError, Problem)


class KvStore(Store):
    """The default: NATS is there anyway."""

    label = "JetStream KV"

    def __init__(
        self, bus: Bus, table: NodeTable, now: Callable[[], Moment], registry: CollectorRegistry
    ) -> None:
        super().__init__(table, now, registry)
        self._bus = bus
        self._nodes: KeyValue | None = None
        self._drains: KeyValue | None = None

    @property
    def trouble(self) -> str | None:
        if not self._bus.connected:
            return "NATS is away; changes are kept in memory and written when it is back"
        return self._trouble

    async def reload(self) -> list[str]:
        """Open the buckets and restore what they hold under the live truth; the ids that came back."""
        async with self._lock:
            return await self._reload()

    async def _reload(self) -> list[str]:
        try:
            js = self._bus.jetstream()
            self._nodes = await jetstream.ensure_bucket(js, jetstream.NODES_BUCKET)
            self._drains = await jetstream.ensure_bucket(js, jetstream.DRAINS_BUCKET)
            loaded = await self._read(self._nodes, self._drains)
        except _FAILURES as error:
            self._fail(error)
            self.unread = True
            return []
        self._trouble, self.unread = None, False
        return await self._restore(loaded)

    async def _read(self, nodes: KeyValue, drains: KeyValue) -> Loaded:
        loaded = Loaded()
        at = self._now()
        for number, value in enumerate(await _values(nodes)):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if removal := removal_from_stored(value, at):
                node_id, when = removal
                if at.mono - when.mono < TOMBSTONE_SECONDS:
                    loaded.removed[node_id] = when
                else:
                    self._dirty_nodes.add(node_id)  # then its place is cleared
                continue
            try:
                loaded.records.append(from_stored(value, at))
            except (ValidationError, ValueError) as error:
                log.warning("stored node is not readable", reason=type(error).__name__)
        for value in await _values(drains):
            try:
                drain = StoredDrain.model_validate_json(value)
            except ValidationError as error:
                log.warning("stored drain is not readable", reason=type(error).__name__)
            else:
                loaded.drains[drain.node_id] = drain.drain
        return loaded

    async def flush(self) -> None:
        """Write what changed; what fails stays dirty. Never raises."""
        async with self._lock:
            if self._nodes is None or self._drains is None or not self._bus.connected:
                return
            await self._write(self._dirty_drains, self._put_drain, self._drains)
            await self._write(self._dirty_nodes, self._put_node, self._nodes)

    async def _write(
        self,
        dirty: set[str],
        put: Callable[[KeyValue, str], Awaitable[None]],
        bucket: KeyValue,
    ) -> None:
        waiting = list(dirty)
        for batch in (waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH)):
            dirty.difference_update(batch)
            try:
                outcomes = await asyncio.gather(
                    *(put(bucket, node_id) for node_id in batch),
                    return_exceptions=True,
                )
            except asyncio.CancelledError:
                dirty.update(batch)  # nobody knows which of them arrived
                raise
            failed = [pair for pair in zip(batch, outcomes, strict=True) if isinstance(pair[1], Exception)]
            self._writes.labels("ok").inc(len(batch) - len(failed))
            if failed:
                self._writes.labels("failed").inc(len(failed))
                dirty.update(node_id for node_id, _error in failed)
                self._fail(failed[0][1])
                return
            self._trouble = None

    async def _put_node(self, bucket: KeyValue, node_id: str) -> None:
        record = self._table.record(node_id)
        removed = self._table.tombstone(node_id)
        if record is not None:
            await bucket.put(subjects.token(node_id), to_stored(record, self._now()))
        elif removed is not None:
            await bucket.put(subjects.token(node_id), removal_to_stored(node_id, removed))
        else:
            await bucket.delete(subjects.token(node_id))

    async def _put_drain(self, bucket: KeyValue, node_id: str) -> None:
        drain = StoredDrain(
            node_id=node_id, drain=self._table.is_drained(node_id), changed_at=self._now().wall
        )
        await bucket.put(subjects.token(node_id), drain.model_dump_json().encode())


async def _values(bucket: KeyValue) -> Iterable[bytes]:
    """The present value of every key."""
    watcher = await bucket.watchall(ignore_deletes=True)
    found: list[bytes] = []
    try:
        while (entry := await watcher.updates(READ_TIMEOUT_SECONDS)) is not None:  # type: ignore[no-untyped-call]
            if entry.value:
                found.append(entry.value)
    finally:
        await watcher.stop()  # type: ignore[no-untyped-call]
    return found
