"""The table's memory in JetStream KV: write-behind, coalesced, one flush a second, reloaded at every connect.

A failed write stays dirty and is tried again; the table in memory never waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import nats.errors
import nats.js.errors
import structlog
from nats.js.kv import KeyValue
from prometheus_client import CollectorRegistry, Counter, Gauge
from pydantic import ValidationError

from compute_common import jetstream, subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from node_registry.records import Moment, NodeRecord
from node_registry.stored import StoredDrain, from_stored, to_stored
from node_registry.table import NodeTable

log = structlog.get_logger("store")

BATCH = 128
READ_TIMEOUT_SECONDS = 5.0
_FAILURES = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError, Problem)


@dataclass
class Loaded:
    """What the store held."""

    records: list[NodeRecord] = field(default_factory=list)
    drains: dict[str, bool] = field(default_factory=dict)


class Store:
    """Node records and drains, each in a bucket of its own."""

    def __init__(
        self, bus: Bus, table: NodeTable, now: Callable[[], Moment], registry: CollectorRegistry
    ) -> None:
        self._bus = bus
        self._table = table
        self._now = now
        self._dirty_nodes: set[str] = set()
        self._dirty_drains: set[str] = set()
        self._nodes: KeyValue | None = None
        self._drains: KeyValue | None = None
        self._lock = asyncio.Lock()
        self._trouble: str | None = "not opened yet"
        self._writes = Counter(
            "compute_registry_store_writes", "Records written to the store", ["outcome"], registry=registry
        )
        dirty = Gauge("compute_registry_store_dirty", "Records waiting to be written", registry=registry)
        dirty.set_function(lambda: len(self._dirty_nodes) + len(self._dirty_drains))

    @property
    def trouble(self) -> str | None:
        """Why nothing is being stored now; None when all is well."""
        return self._trouble

    def touch(self, node_id: str) -> None:
        """The node changed (or is gone): write it at the next flush."""
        self._dirty_nodes.add(node_id)

    def touch_drain(self, node_id: str) -> None:
        self._dirty_drains.add(node_id)

    async def reload(self) -> list[str]:
        """Open the buckets and restore what they hold under the live truth; the ids that came back."""
        try:
            js = self._bus.jetstream()
            self._nodes = await jetstream.ensure_bucket(js, jetstream.NODES_BUCKET)
            self._drains = await jetstream.ensure_bucket(js, jetstream.DRAINS_BUCKET)
            loaded = await self._read(self._nodes, self._drains)
        except _FAILURES as error:
            self._fail(error)
            return []
        self._trouble = None
        return self._restore(loaded)

    def _restore(self, loaded: Loaded) -> list[str]:
        kept = [record for record in loaded.records if record.node_id not in self._dirty_nodes]
        set_drains = [name for name, on in loaded.drains.items() if on and name not in self._dirty_drains]
        added = self._table.restore(kept, set_drains)
        for name, on in loaded.drains.items():
            if not on and name not in self._dirty_drains:
                self._table.drain(name, drain=False)
        stored = {record.node_id for record in loaded.records}
        self._dirty_nodes |= {node.node_id for node in self._table.nodes()} - stored
        self._dirty_drains |= self._table.drains - set(loaded.drains)
        return added

    async def _read(self, nodes: KeyValue, drains: KeyValue) -> Loaded:
        loaded = Loaded()
        at = self._now()
        for value in await _values(nodes):
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
            outcomes = await asyncio.gather(
                *(put(bucket, node_id) for node_id in batch),
                return_exceptions=True,
            )
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
        if record is None:
            await bucket.delete(subjects.token(node_id))
        else:
            await bucket.put(subjects.token(node_id), to_stored(record, self._now()))

    async def _put_drain(self, bucket: KeyValue, node_id: str) -> None:
        drain = StoredDrain(
            node_id=node_id, drain=self._table.is_drained(node_id), changed_at=self._now().wall
        )
        await bucket.put(subjects.token(node_id), drain.model_dump_json().encode())

    def _fail(self, error: object) -> None:
        reason = type(error).__name__
        if self._trouble != reason:
            log.warning("store trouble", reason=reason)
        self._trouble = reason


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
