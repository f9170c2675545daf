"""Rows of compute_nodes and compute_drains, the batches they travel in, and what refusals mean."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from compute_common.schemas.base import JsonObject
from compute_common.times import as_utc, rfc3339
from node_registry.records import Moment, NodeRecord
from node_registry.rows import Row
from node_registry.stored import from_stored, to_stored

NODES = "compute_nodes"
DRAINS = "compute_drains"
BATCH_ROWS = 200
BATCH_BYTES = 2 << 20

MIGRATIONS = "apply deploy/supabase/migrations"
KEY_REFUSED = "the key is refused: SUPABASE_SERVICE_KEY must be this project's service_role key"
_CAUSES: Mapping[str, str] = {
    "401": KEY_REFUSED,
    "PGRST301": KEY_REFUSED,
    "PGRST302": KEY_REFUSED,
    "PGRST303": KEY_REFUSED,
    "42501": "the key has no rights on the tables: SUPABASE_SERVICE_KEY must be the service_role key",
    "42P01": f"a table is missing: {MIGRATIONS}",
    "PGRST205": f"a table is missing: {MIGRATIONS}",
    "42703": f"a column is missing: {MIGRATIONS}",
    "PGRST204": f"a column is missing: {MIGRATIONS}",
    "404": "no Supabase REST interface there: check SUPABASE_URL",
}
# SQLSTATE classes 22 (data exception), 23 (constraint), 54 (limit); the body: unreadable, too large
_ROW_AT_FAULT = re.compile(r"22...|23...|54...|PGRST102|413")


class StoreError(Exception):
    """Supabase did not do what it was asked; `reason` holds nothing of the key, the URL or a row."""

    def __init__(self, reason: str, row_at_fault: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.row_at_fault = row_at_fault


@dataclass(frozen=True)
class StoredRow:
    """One row to upsert, and its length as JSON."""

    node_id: str
    columns: JsonObject
    size: int


def node_row(node_id: str, row: Row | None, at: Moment, removed: Moment | None = None) -> StoredRow:
    """The node as it is now; a tombstone when it is gone, dated `removed` where that is known."""
    if row is None:
        gone: JsonObject = {
            "node_id": node_id,
            "record": None,
            "tier": None,
            "status": None,
            "deleted_at": rfc3339((removed or at).wall),
        }
        return StoredRow(node_id, gone, len(node_id))
    stored = to_stored(row.record, at)
    columns: JsonObject = {
        "node_id": node_id,
        "record": json.loads(stored),
        "tier": row.profile.facets.tier.value,
        "status": row.status.value,
        "deleted_at": None,
    }
    return StoredRow(node_id, columns, len(stored))


def drain_row(node_id: str, drained: bool, at: Moment) -> StoredRow:
    """The drain as it is now; a lifted one is a tombstone."""
    changed = rfc3339(at.wall)
    deleted = None if drained else changed
    return StoredRow(
        node_id, {"node_id": node_id, "changed_at": changed, "deleted_at": deleted}, len(node_id)
    )


def record_of(columns: JsonObject, at: Moment) -> NodeRecord | None:
    """The record of a row as it was read; None when it is not readable."""
    try:
        record = from_stored(json.dumps(columns.get("record")).encode(), at)
    except (ValidationError, ValueError):
        return None
    return record if record.node_id == columns.get("node_id") else None


def removal_of(columns: JsonObject, at: Moment) -> Moment | None:
    """When the row became a tombstone; None for a living one."""
    text = columns.get("deleted_at")
    try:
        deleted = as_utc(datetime.fromisoformat(text)) if isinstance(text, str) else None
    except ValueError:
        return None
    if deleted is None:
        return None
    return Moment(at.mono - max(0.0, (at.wall - deleted).total_seconds()), deleted)


def batches(rows: Iterable[StoredRow]) -> Iterator[list[StoredRow]]:
    """At most `BATCH_ROWS` rows a batch, and none more once `BATCH_BYTES` are reached.

    A row is asked for only when its batch takes it: none grows old while the batch before is written.
    """
    batch: list[StoredRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def refusal(code: str | None, message: str | None) -> StoreError:
    """What an answer of PostgREST, or of the gateway before it, means for the operator."""
    if code is None:
        about_key = "api key" in (message or "").lower()
        return StoreError(KEY_REFUSED if about_key else "it refuses without a code")
    if not re.fullmatch(r"[A-Za-z0-9]{1,12}", code):
        return StoreError("it refuses with a code of its own")
    return StoreError(_CAUSES.get(code, f"it refuses with code {code}"), bool(_ROW_AT_FAULT.fullmatch(code)))
