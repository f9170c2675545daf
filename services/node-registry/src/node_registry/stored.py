"""A node record as it is stored, and back.

Monotonic times do not survive a process: what is stored is when, by the wall clock, a node was last heard.
"""

from datetime import datetime

from pydantic import Field, ValidationError

from compute_common.schemas.base import Wire
from compute_common.schemas.node import Heartbeat, Measured, NodeDocument
from compute_common.times import UtcTime
from node_registry.liveness import Life
from node_registry.records import Boots, Moment, NodeRecord


class StoredNode(Wire):
    """One value of the bucket COMPUTE_NODES."""

    v: int = 1
    document: NodeDocument
    registered_at: UtcTime
    online: bool = True
    has_beaten: bool = False
    gaps: list[float] = Field([], max_length=16)
    last_seen: UtcTime
    last_heartbeat: UtcTime | None = None
    beat: Heartbeat | None = None
    measured: list[Measured] = []
    boot_id: str | None = None


class StoredDrain(Wire):
    """One value of the bucket COMPUTE_DRAINS; `drain: false` is a lifted one."""

    v: int = 1
    node_id: str
    drain: bool
    changed_at: UtcTime


class StoredRemoval(Wire):
    """A value of the bucket COMPUTE_NODES in a removed node's place; of no meaning after an hour."""

    v: int = 1
    node_id: str
    removed_at: UtcTime


def removal_to_stored(node_id: str, removed: Moment) -> bytes:
    """The tombstone as JSON bytes."""
    return StoredRemoval(node_id=node_id, removed_at=removed.wall).model_dump_json().encode()


def removal_from_stored(data: bytes, at: Moment) -> tuple[str, Moment] | None:
    """The node and when it was removed; None for what is no tombstone."""
    if b'"removed_at"' not in data:
        return None
    try:
        stored = StoredRemoval.model_validate_json(data)
    except ValidationError:
        return None
    ago = max(0.0, (at.wall - stored.removed_at).total_seconds())
    return stored.node_id, Moment(at.mono - ago, stored.removed_at)


def to_stored(record: NodeRecord, at: Moment) -> bytes:
    """The record as JSON bytes."""
    silent = max(0.0, at.mono - record.life.last_seen)
    stored = StoredNode(
        document=record.document,
        registered_at=record.registered_at,
        online=record.online,
        has_beaten=record.life.last_beat is not None,
        gaps=list(record.life.gaps),
        last_seen=_earlier(at.wall, silent),
        last_heartbeat=record.last_heartbeat,
        beat=record.beat,
        measured=list(record.measured),
        boot_id=record.boots.current,
    )
    return stored.model_dump_json(exclude_unset=True).encode()


def from_stored(data: bytes, at: Moment) -> NodeRecord:
    """The record; pydantic's ValidationError for anything else.

    A node that beats gets a fresh deadline (it could not be heard meanwhile); one that never beat goes on
    with the time it has left.
    """
    stored = StoredNode.model_validate_json(data)
    ago = max(0.0, (at.wall - stored.last_seen).total_seconds())
    last_seen = at.mono if stored.online and stored.has_beaten else at.mono - ago
    life = Life(
        last_seen=last_seen,
        last_beat=last_seen if stored.has_beaten else None,
        gaps=tuple(gap for gap in stored.gaps if gap > 0),
    )
    return NodeRecord(
        document=stored.document,
        registered_at=stored.registered_at,
        life=life,
        online=stored.online,
        beat=stored.beat,
        last_heartbeat=stored.last_heartbeat,
        measured=tuple(stored.measured),
        boots=Boots(current=stored.boot_id),
    )


def _earlier(wall: datetime, seconds: float) -> datetime:
    return datetime.fromtimestamp(wall.timestamp() - seconds, tz=wall.tzinfo)
