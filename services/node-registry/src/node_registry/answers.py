"""Nodes as the contract answers them: nested hardware, flat summary, state.

The lasting members are encoded already; an answer puts JSON together.
"""

from collections.abc import Collection
from datetime import datetime
from typing import TypeVar

from pydantic_core import from_json, to_json

from compute_common.enums import MemoryLevel
from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Heartbeat, Node
from compute_common.schemas.node_flat import flat_hardware
from node_registry.documents import descriptive
from node_registry.liveness import beat_seconds
from node_registry.records import NodeRecord
from node_registry.rows import Row

_FLAT_STATE = (
    "available_cpu_slots", "available_gpu_slots", "available_memory_mb", "available_vram_mb",
    "is_online", "is_draining", "last_heartbeat",
)  # fmt: skip
CLOCK_TOLERANCE_SECONDS = 60.0
_NOTHING = Heartbeat(node_id="none")
T = TypeVar("T")


def node_json(row: Row, capabilities: JsonObject | None = None) -> bytes:
    """The node as every route and subject answers it."""
    state = {**state_fields(row), "capabilities": capabilities}
    return b"{" + row.profile.members + b"," + to_json(state, inf_nan_mode="null")[1:]


def single_json(row: Row) -> bytes:
    """A single-node answer: the same with the flat form under `capabilities`."""
    document, state = row.record.document, state_fields(row)
    flat: JsonObject = {
        **descriptive(document),
        **flat_hardware(document.cpu, document.memory, document.gpus or []),
        "node_id": document.node_id,
        "hostname": document.hostname,
        "tier": row.profile.facets.tier,
        "ipv4": document.ipv4,
        "supported_models": from_json(b"{" + row.profile.members + b"}")["supported_models"],
        **{name: state[name] for name in _FLAT_STATE},
    }
    return node_json(row, flat)


def node_model(row: Row) -> Node:
    """The node as a record, for those few who read more than they pass on."""
    return Node.model_validate_json(node_json(row))


def nodes_json(bodies: Collection[bytes], next_cursor: str | None, at: datetime, more: JsonObject) -> bytes:
    """A list answer: `nodes` (each encoded already), `count`, `next_cursor`, `timestamp` and `more`."""
    tail = to_json({"count": len(bodies), "next_cursor": next_cursor, "timestamp": at, **more})
    return b'{"nodes":[' + b",".join(bodies) + b"]," + tail[1:]


def event_json(event: str, node_id: str, row: Row | None, at: datetime) -> bytes:
    """A node event with the whole node."""
    tail = to_json({"event": event, "node_id": node_id, "timestamp": at, "v": 1})
    return b'{"node":' + (node_json(row) if row else b"null") + b"," + tail[1:]


def state_fields(row: Row) -> JsonObject:
    """The fields of a `Node` that change from heartbeat to heartbeat."""
    record = row.record
    beat, said = record.beat or _NOTHING, row.profile.announced or _NOTHING
    cpu = _last(beat.cpu_utilization, said.cpu_utilization)
    memory = _last(beat.memory_utilization, said.memory_utilization)
    gpus = _last(beat.gpu_utilization, said.gpu_utilization) or []
    return {
        "status": row.status,
        "is_online": record.online,
        "is_draining": row.is_draining,
        "last_heartbeat": record.last_heartbeat,
        "heartbeat_seconds": beat_seconds(record.document.heartbeat_seconds, record.life.gaps),
        "available_cpu_slots": _last(beat.available_cpu_slots, said.available_cpu_slots),
        "available_gpu_slots": _last(beat.available_gpu_slots, said.available_gpu_slots),
        "available_memory_mb": row.available_memory_mb,
        "available_vram_mb": row.available_vram_mb,
        "cpu_utilization": cpu,
        "memory_utilization": memory,
        "gpu_utilization": gpus,
        "utilization_score": max((value for value in (cpu, memory, *gpus) if value is not None), default=0.0),
        "active_jobs": _last(beat.active_jobs, said.active_jobs) or 0,
        "memory_level": memory_level(row),
        "warnings": warnings_of(row),
    }


def memory_level(row: Row) -> MemoryLevel:
    """The level its last heartbeat, else its document told."""
    beat, said = row.record.beat or _NOTHING, row.profile.announced or _NOTHING
    return _last(beat.memory_level, said.memory_level) or MemoryLevel.OK


def warnings_of(row: Row) -> list[str]:
    """What an operator should know of the node."""
    return [*row.profile.warnings, *_clone_warning(row.record), *_clock_warning(row.record)]


def _clone_warning(record: NodeRecord) -> list[str]:
    if not record.boots.cloned:
        return []
    return ["two hosts speak under this node id (their boot ids alternate); give one another NODE_ID"]


def _clock_warning(record: NodeRecord) -> list[str]:
    """Nothing here trusts a node's clock; certificates, logs and leases elsewhere may."""
    if record.beat is None or record.beat.timestamp is None or record.last_heartbeat is None:
        return []
    ahead = (record.beat.timestamp - record.last_heartbeat).total_seconds()
    if abs(ahead) < CLOCK_TOLERANCE_SECONDS:
        return []
    return [f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}; set up NTP there"]


def _last(newer: T | None, older: T | None) -> T | None:
    return older if newer is None else newer
