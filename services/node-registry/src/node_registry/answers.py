"""A record as the contract answers it: nested hardware, flat summary, state."""

from collections.abc import Collection
from typing import Any

from compute_common.enums import MemoryLevel, NodeStatus
from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Cpu, Heartbeat, Memory, Node, NodeDocument
from compute_common.schemas.node_flat import flat_hardware
from compute_common.units import mib_to_gib
from node_registry.documents import descriptive, first_beat
from node_registry.hardware import tier_of
from node_registry.liveness import beat_seconds
from node_registry.records import InstanceFacts, NodeRecord

_FLAT_STATE = (
    "node_id", "hostname", "tier", "ipv4", "available_cpu_slots", "available_gpu_slots",
    "available_memory_mb", "available_vram_mb", "supported_models",
    "is_online", "is_draining", "last_heartbeat",
)  # fmt: skip


def status_of(record: NodeRecord, drained: bool) -> NodeStatus:
    """offline before draining before busy before online."""
    if not record.online:
        return NodeStatus.OFFLINE
    if drained or record.own_status is NodeStatus.DRAINING:
        return NodeStatus.DRAINING
    return NodeStatus.BUSY if record.own_status is NodeStatus.BUSY else NodeStatus.ONLINE


def node_answer(record: NodeRecord, drained: bool, instances: Collection[InstanceFacts]) -> Node:
    """The node as every route and subject answers it."""
    document = record.document
    tier, tier_warnings = tier_of(document)
    beat, beat_warnings = _current_beat(record)
    status = status_of(record, drained)
    gpus = document.gpus or []
    vram = sum(gpu.vram_mb or 0 for gpu in gpus)
    cpu, memory = document.cpu or Cpu(), document.memory or Memory()
    fields: dict[str, Any] = {
        **descriptive(document),
        "node_id": document.node_id,
        "hostname": document.hostname,
        "tier": tier,
        "declared_tier": document.declared_tier,
        "status": status,
        "is_online": record.online,
        "is_draining": drained or record.own_status is NodeStatus.DRAINING,
        "registered_at": record.registered_at,
        "last_heartbeat": record.last_heartbeat,
        "cpu": cpu,
        "memory": memory,
        "gpus": gpus,
        "platform": document.platform,
        "ipv4": document.ipv4,
        "network": document.network or {},
        "labels": document.labels or {},
        "supported_models": _models(document, instances),
        "work_types": document.work_types,
        "slots": document.slots,
        "endpoints": _endpoints(document, instances),
        "heartbeat_seconds": beat_seconds(document.heartbeat_seconds, record.life.gaps),
        "boot_id": document.boot_id,
        "managed": document.managed,
        "fenced": document.fenced,
        "cpu_cores": cpu.cores,
        "cpu_threads": cpu.threads,
        "cpu_model": cpu.model_name,
        "memory_mb": memory.total_mb,
        "gpu_count": len(gpus),
        "gpu_vram_mb": vram,
        "gpu_vram_gb": mib_to_gib(vram),
        "gpu_models": [gpu.name for gpu in gpus],
        **_state(document, beat),
        "measured": list(record.measured),
        "warnings": [*tier_warnings, *beat_warnings, *_clone_warning(record)],
    }
    return Node.model_construct(**fields)


def with_capabilities(node: Node, document: NodeDocument) -> Node:
    """A single-node answer: the same with the flat form under `capabilities`."""
    body = node.model_dump(include=set(_FLAT_STATE), mode="json")
    flat: JsonObject = {**descriptive(document), **flat_hardware(node.cpu, node.memory, node.gpus), **body}
    return node.model_copy(update={"capabilities": flat})


def _current_beat(record: NodeRecord) -> tuple[Heartbeat, list[str]]:
    """The last heartbeat over what the document itself said."""
    announced, warnings = first_beat(record.document)
    base = announced or Heartbeat(node_id=record.node_id)
    if record.beat is None:
        return base, warnings
    given = {name: getattr(record.beat, name) for name in record.beat.model_fields_set}
    return base.model_copy(update={k: v for k, v in given.items() if v is not None}), warnings


def _state(document: NodeDocument, beat: Heartbeat) -> JsonObject:
    utilisations = [beat.cpu_utilization, beat.memory_utilization, *(beat.gpu_utilization or [])]
    return {
        "available_cpu_slots": beat.available_cpu_slots,
        "available_gpu_slots": beat.available_gpu_slots,
        "available_memory_mb": _first(
            beat.available_memory_mb, document.memory.available_mb if document.memory else None
        ),
        "available_vram_mb": _first(beat.available_vram_mb, _free_vram(document)),
        "cpu_utilization": beat.cpu_utilization,
        "memory_utilization": beat.memory_utilization,
        "gpu_utilization": beat.gpu_utilization or [],
        "utilization_score": max((value for value in utilisations if value is not None), default=0.0),
        "active_jobs": beat.active_jobs or 0,
        "memory_level": beat.memory_level or MemoryLevel.OK,
    }


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _free_vram(document: NodeDocument) -> int | None:
    known = [gpu for gpu in document.gpus or [] if gpu.vram_mb is not None]
    if not known:
        return None
    return sum(max(0, (gpu.vram_mb or 0) - (gpu.vram_used_mb or 0)) for gpu in known)


def _models(document: NodeDocument, instances: Collection[InstanceFacts]) -> list[str] | None:
    """Declared names and those of ready instances; None for a plain worker that declared nothing."""
    served = [name for instance in instances if instance.ready for name in instance.served_names]
    if not served and document.supported_models is None and not document.managed:
        return None
    return list(dict.fromkeys([*(document.supported_models or []), *served]))


def _endpoints(document: NodeDocument, instances: Collection[InstanceFacts]) -> JsonObject:
    serving = {item.instance_name: item.api for item in instances if item.ready and item.api}
    return {**(document.endpoints or {}), **serving}


def _clone_warning(record: NodeRecord) -> list[str]:
    if not record.boots.cloned:
        return []
    return ["two hosts speak under this node id (their boot ids alternate); give one another NODE_ID"]
