"""What a message makes of a record, and which event others should hear of it."""

from collections.abc import Iterable

from compute_common.enums import NodeStatus
from compute_common.schemas.node import Heartbeat, Measured
from node_registry.records import NodeRecord

MEASUREMENTS_KEPT = 64


def merged_beat(old: Heartbeat | None, new: Heartbeat) -> Heartbeat:
    """What a heartbeat does not say stays as it was; its status and its time are always its own."""
    if old is None:
        return new
    given = {name: getattr(new, name) for name in new.model_fields_set if getattr(new, name) is not None}
    return old.model_copy(update={**given, "status": new.status, "timestamp": new.timestamp})


def merged_measurements(old: Iterable[Measured], new: Iterable[Measured]) -> tuple[Measured, ...]:
    """The newest per model, engine and batch size; the oldest of too many go."""
    kept = {(item.model, item.engine, item.batch_size): item for item in old}
    for item in new:
        key = (item.model, item.engine, item.batch_size)
        kept.pop(key, None)
        kept[key] = item
    return tuple(kept.values())[-MEASUREMENTS_KEPT:]


def event_between(before: NodeStatus, after: NodeStatus) -> str:
    """The event of a changed status."""
    if after is NodeStatus.OFFLINE:
        return "offline"
    if before is NodeStatus.OFFLINE:
        return "joined"
    return "draining" if after is NodeStatus.DRAINING else "updated"


def is_worth_telling(old: NodeRecord, new: NodeRecord) -> bool:
    """Whether, the status apart, others should hear of the difference between two heartbeats."""
    return _level(old) != _level(new) or old.boots.cloned != new.boots.cloned


def _level(record: NodeRecord) -> object:
    return record.beat.memory_level if record.beat else None
