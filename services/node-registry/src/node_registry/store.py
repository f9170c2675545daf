"""The table's memory outside this process: write-behind, coalesced, one flush a second, reloaded at start.

A failed write stays dirty and is tried again; the table in memory never waits for it. What is stored never
overrides what is known live.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from node_registry.records import Moment, NodeRecord
from node_registry.table import NodeTable

log = structlog.get_logger("store")

LAST_FLUSH_SECONDS = 2.0
SLICE = 50  # records at a time: some ten milliseconds


@dataclass
class Loaded:
    """What the store held."""

    records: list[NodeRecord] = field(default_factory=list)
    drains: dict[str, bool] = field(default_factory=dict)
    removed: dict[str, Moment] = field(default_factory=dict)


class Store(ABC):
    """Node records and drains. `reload` and `flush` hold one lock: what is being written is not read back."""

    label: str
    unread = False  # the last attempt to read it failed, and nothing else tries again

    def __init__(self, table: NodeTable, now: Callable[[], Moment], registry: CollectorRegistry) -> None:
        self._table = table
        self._now = now
        self._dirty_nodes: set[str] = set()
        self._dirty_drains: set[str] = set()
        self._lock = asyncio.Lock()
        self._trouble: str | None = "not opened yet"
        self._writes = Counter(
            "compute_registry_store_writes", "Records written to the store", ["outcome"], registry=registry
        )
        dirty = Gauge("compute_registry_store_dirty", "Records waiting to be written", registry=registry)
        dirty.set_function(lambda: self.waiting)

    @property
    def trouble(self) -> str | None:
        """Why nothing is being stored now; None when all is well."""
        return self._trouble

    @property
    def waiting(self) -> int:
        """Records that changed and are not written yet."""
        return len(self._dirty_nodes) + len(self._dirty_drains)

    def health(self) -> tuple[bool, str]:
        """Whether all is well, and which store this is and how it is."""
        if self.trouble is None:
            return True, self.label
        return False, f"{self.label}: {self.trouble} ({self.waiting} records wait)"

    def touch(self, node_id: str) -> None:
        """The node changed (or is gone): write it at the next flush."""
        self._dirty_nodes.add(node_id)

    def touch_drain(self, node_id: str) -> None:
        self._dirty_drains.add(node_id)

    @abstractmethod
    async def reload(self) -> list[str]:
        """Restore what is stored under the live truth; the ids that came back. Never raises."""

    @abstractmethod
    async def flush(self) -> None:
        """Write what changed; what fails stays dirty. Never raises."""

    async def close(self, write: bool = True) -> None:
        """The end; `write` what still waits, as far as that goes in `LAST_FLUSH_SECONDS`."""
        if not write:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), LAST_FLUSH_SECONDS)

    async def _restore(self, loaded: Loaded) -> list[str]:
        """In slices: what is heard meanwhile is fresher and stays, and who asks is answered."""
        set_drains = [name for name, on in loaded.drains.items() if on and name not in self._dirty_drains]
        for node_id, at in loaded.removed.items():
            self._take_in_removal(node_id, at)
        added = self._table.restore([], set_drains)
        for start in range(0, len(loaded.records), SLICE):
            some = loaded.records[start : start + SLICE]
            added += self._table.restore([it for it in some if it.node_id not in self._dirty_nodes], [])
            await asyncio.sleep(0)
        for name, on in loaded.drains.items():
            if not on and name not in self._dirty_drains:
                self._table.drain(name, drain=False)
        stored = {record.node_id for record in loaded.records}
        self._dirty_nodes |= {row.node_id for row in self._table.rows()} - stored
        self._dirty_drains |= self._table.drains - set(loaded.drains)
        return added

    def _take_in_removal(self, node_id: str, at: Moment) -> None:
        """A removal this replica missed; a node heard after it is there again.

        By a clock ahead of this one's the order is not known: then a node that is online stays.
        """
        record = self._table.record(node_id)
        is_ahead = at.wall > self._now().wall
        if record is None:
            self._table.bury(node_id, at)
        elif record.life.last_seen < at.mono and not (is_ahead and record.online):
            self._table.remove(node_id, at)

    def _fail(self, error: object) -> None:
        reason = type(error).__name__
        if self._trouble != reason:
            log.warning("store trouble", reason=reason)
        self._trouble = reason
