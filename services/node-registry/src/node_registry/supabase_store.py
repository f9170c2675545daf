"""The table's memory in Supabase: batches of upserts, deletes as tombstones, patient while it is down.

What changed stays in memory until it is written, deletes included, and after a failed try also in a file,
for a restart meanwhile; the pause before the next try doubles up to `retry_seconds`. Nothing is written
before what is stored was read once. The key is in no log and no error.
"""

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from compute_common.ids import slug
from compute_common.schemas.base import JsonObject
from node_registry.records import Moment, NodeRecord
from node_registry.store import Loaded, Store
from node_registry.supabase_rows import (
    BATCH_ROWS,
    DRAINS,
    NODES,
    StoredRow,
    StoreError,
    batches,
    drain_row,
    node_row,
    record_of,
    removal_of,
)
from node_registry.table import NodeTable
from node_registry.tombstones import TOMBSTONE_SECONDS
from node_registry.waiting_file import WaitingFile

if TYPE_CHECKING:
    from node_registry.supabase_tables import SupabaseTables

log = structlog.get_logger("store")

FIRST_PAUSE_SECONDS = 1.0
PURGE_EVERY_SECONDS = 600.0
TOMBSTONE_LIFE = timedelta(seconds=TOMBSTONE_SECONDS)
MOST_WAITING = 100_000


@dataclass(frozen=True)
class Project:
    """`timeout_seconds` bounds one request, `retry_seconds` the pause between tries."""

    url: str
    key: SecretStr
    timeout_seconds: float = 10
    retry_seconds: float = 15

    @property
    def waiting_file_name(self) -> str:
        """What waits for one project is not another's."""
        return f"waiting-for-{slug(self.host)}.jsonl"

    @property
    def host(self) -> str:
        """Host and port, never what a URL may hold before an @."""
        try:
            parts = urlsplit(self.url)
            return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "?"
        except ValueError:
            return "?"


class SupabaseStore(Store):
    """Node records in compute_nodes, drains in compute_drains."""

    def __init__(
        self,
        project: Project,
        table: NodeTable,
        now: Callable[[], Moment],
        registry: CollectorRegistry,
        home: Path | None = None,
    ) -> None:
        """`home`: the folder of the file for what waits; None keeps no file."""
        super().__init__(table, now, registry)
        self._project = project
        self._file = None if home is None else WaitingFile(home / project.waiting_file_name)
        self._file_is_read = False
        self._file_is_kept = False
        self._taken_back: dict[str, tuple[NodeRecord | None, datetime]] = {}
        self._tables: SupabaseTables | None = None
        self._is_loaded = False
        self._failures = 0
        self._resume_at = 0.0
        self._purge_at = 0.0
        self.label = f"Supabase at {project.host}"

    def touch(self, node_id: str) -> None:
        """Past `MOST_WAITING` the removal of one more node is not noted: made-up ids fill no memory."""
        if len(self._dirty_nodes) < MOST_WAITING or node_id in self._table:
            super().touch(node_id)
        else:
            self._writes.labels("dropped").inc()

    async def reload(self) -> list[str]:
        async with self._lock:
            try:
                return await self._load()
            except StoreError as error:
                self._pause(error)
                return []

    async def flush(self) -> None:
        async with self._lock:
            if self._now().mono < self._resume_at:
                return
            try:
                await self._write_all()
            except StoreError as error:
                self._pause(error)
                await self._keep_waiting()
            else:
                if self._file_is_kept:
                    await self._keep_waiting()

    async def close(self, write: bool = True) -> None:
        self._resume_at = 0.0
        await super().close(write)
        async with self._lock:
            if write and self.waiting:
                await self._keep_waiting()
            if self._tables is not None:
                await self._tables.close()
                self._tables = None

    # --- reading

    async def _load(self) -> list[str]:
        await self._take_back()
        tables = await self._open()
        loaded = Loaded()
        async for page in tables.pages(DRAINS, "node_id,deleted_at"):
            loaded.drains.update((str(row["node_id"]), row.get("deleted_at") is None) for row in page)
        async for page in tables.pages(NODES, "node_id,record,deleted_at"):
            at = self._now()
            for row in page:
                self._read_node(row, at, loaded)
            await asyncio.sleep(0)
        self._is_loaded = True
        self._resume()
        return await self._restore(loaded)

    def _read_node(self, row: JsonObject, at: Moment, loaded: Loaded) -> None:
        node_id = str(row["node_id"])
        removed = removal_of(row, at)
        if removed is not None:
            self._give_up(node_id, removed)
            if at.wall - removed.wall < TOMBSTONE_LIFE:
                loaded.removed[node_id] = removed
        elif (record := record_of(row, at)) is not None:
            loaded.records.append(record)
        else:
            log.warning("stored node is not readable")

    async def _open(self) -> "SupabaseTables":
        if self._tables is None:
            try:
                # A thread: the import takes a tenth of a second, half of one without bytecode.
                module = await asyncio.to_thread(importlib.import_module, "node_registry.supabase_tables")
            except ImportError:
                raise StoreError(
                    "its client is not installed: pip install 'node-registry[supabase]'"
                ) from None
            project = self._project
            key = project.key.get_secret_value().strip()
            self._tables = await module.SupabaseTables.open(project.url, key, project.timeout_seconds)
        return self._tables

    # --- writing

    async def _write_all(self) -> None:
        if not self._is_loaded:
            restored = await self._load()
            log.info("store read", restored=len(restored), nodes=len(self._table))
        tables = await self._open()
        await self._write(tables, DRAINS, self._dirty_drains, self._drain_row)
        await self._write(tables, NODES, self._dirty_nodes, self._node_row)
        await self._purge(tables)

    async def _write(
        self, tables: "SupabaseTables", name: str, dirty: set[str], row_of: Callable[[str], StoredRow]
    ) -> None:
        for batch in batches(row_of(node_id) for node_id in list(dirty)):
            taken = {row.node_id for row in batch}
            dirty.difference_update(taken)
            written = False
            try:
                await self._upsert(tables, name, batch)
                written = True
            finally:  # cancelled, too
                if not written:
                    dirty.update(taken)
                    self._writes.labels("failed").inc(len(batch))
            self._resume()

    async def _upsert(self, tables: "SupabaseTables", name: str, batch: list[StoredRow]) -> None:
        """Write a batch; a row the database refuses is found by halving and does not hold up the others."""
        try:
            await tables.upsert(name, [row.columns for row in batch])
        except StoreError as error:
            if not error.row_at_fault:
                raise
            if len(batch) == 1:
                self._writes.labels("refused").inc()
                log.warning("a row is refused and not stored", node_id=batch[0].node_id, reason=error.reason)
                return
            middle = len(batch) // 2
            await self._upsert(tables, name, batch[:middle])
            await self._upsert(tables, name, batch[middle:])
        else:
            self._writes.labels("ok").inc(len(batch))

    async def _purge(self, tables: "SupabaseTables") -> None:
        now = self._now()
        if now.mono < self._purge_at:
            return
        for name in (NODES, DRAINS):
            await tables.purge(name, now.wall - TOMBSTONE_LIFE)
        self._purge_at = now.mono + PURGE_EVERY_SECONDS

    def _node_row(self, node_id: str) -> StoredRow:
        return node_row(node_id, self._table.row(node_id), self._now(), self._table.tombstone(node_id))

    def _drain_row(self, node_id: str) -> StoredRow:
        return drain_row(node_id, self._table.is_drained(node_id), self._now())

    # --- what waits, kept in a file

    async def _take_back(self) -> None:
        """Once, before the first reading: what an earlier process could not write waits here again.

        A file older than tombstones live is left: nobody could tell any more what was removed since.
        """
        if self._file is None or self._file_is_read:
            return
        self._file_is_read = True
        at, written = self._now(), self._file.written_at()
        if written is None or at.wall - written > TOMBSTONE_LIFE:
            return
        rows = await asyncio.to_thread(self._file.read)
        self._file_is_kept = bool(rows)
        drains = {str(row["node_id"]): row for table, row in rows if table == DRAINS}
        nodes = {str(row["node_id"]): row for table, row in rows if table == NODES}
        records = [record for row in nodes.values() if (record := record_of(row, at)) is not None]
        set_drains = [node_id for node_id, row in drains.items() if row.get("deleted_at") is None]
        added = self._table.restore(records, set_drains)
        self._taken_back = {node_id: (self._table.record(node_id), written) for node_id in added}
        for node_id, row in nodes.items():
            removed = removal_of(row, at)
            if removed is not None and node_id not in self._table:
                self._table.bury(node_id, removed)
        self._dirty_nodes.update(nodes)
        self._dirty_drains.update(drains)

    def _give_up(self, node_id: str, removed: Moment) -> None:
        """A node that came back from the file, was removed elsewhere since, and has not been heard."""
        record, written = self._taken_back.get(node_id, (None, removed.wall))
        if record is not None and written < removed.wall and self._table.record(node_id) is record:
            self._table.remove(node_id)
            self._dirty_nodes.discard(node_id)

    async def _keep_waiting(self) -> None:
        if self._file is None or (self.waiting == 0 and not self._file_is_kept):
            return
        rows = [(DRAINS, self._drain_row(node_id).columns) for node_id in sorted(self._dirty_drains)]
        for number, node_id in enumerate(sorted(self._dirty_nodes)):
            rows.append((NODES, self._node_row(node_id).columns))
            if number % BATCH_ROWS == 0:
                await asyncio.sleep(0)
        try:
            await asyncio.to_thread(self._file.replace, rows)
            self._file_is_kept = bool(rows)
        except OSError as error:
            log.warning("what waits cannot be kept in a file", reason=type(error).__name__)

    # --- trouble

    def _pause(self, error: StoreError) -> None:
        if self._trouble != error.reason:
            log.warning("store trouble", store=self.label, reason=error.reason)
        self._trouble = error.reason
        pause = min(FIRST_PAUSE_SECONDS * 2**self._failures, self._project.retry_seconds)
        self._failures = min(self._failures + 1, 16)
        self._resume_at = self._now().mono + pause

    def _resume(self) -> None:
        if self._trouble is not None and self._failures:
            log.info("store is back", store=self.label, waiting=self.waiting)
        self._trouble = None
        self._failures = 0
        self._resume_at = 0.0
