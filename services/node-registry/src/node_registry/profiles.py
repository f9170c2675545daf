"""What of a node changes only with its document, its instances and its measurements.

Computed once per change, not per heartbeat or query: the values filters read, and the JSON answers repeat.
"""

from collections.abc import Collection
from dataclasses import dataclass

from pydantic_core import to_json

from compute_common.enums import Tier
from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Cpu, Heartbeat, Memory, NodeDocument
from compute_common.units import mib_to_gib
from node_registry.documents import descriptive, first_beat
from node_registry.facets import Facets
from node_registry.hardware import memories, tier_of
from node_registry.records import InstanceFacts, NodeRecord


@dataclass(frozen=True, slots=True)
class Profile:
    """`members`: the lasting fields of an answer as JSON members, without braces."""

    members: bytes
    warnings: tuple[str, ...]
    announced: Heartbeat | None  # utilisation and free capacity a flat document carries
    facets: Facets
    free_vram_mb: int | None
    free_ram_mb: int | None

    @property
    def tier(self) -> Tier:
        return self.facets.tier


def profile_of(record: NodeRecord, instances: Collection[InstanceFacts]) -> Profile:
    """The lasting part of a node."""
    document = record.document
    tier, tier_warnings = tier_of(document)
    announced, beat_warnings = first_beat(document)
    gpus, memory, cpu = document.gpus or [], document.memory or Memory(), document.cpu or Cpu()
    said = announced or Heartbeat(node_id=document.node_id)
    models = _models(document, instances)
    vram = memories(gpus)
    types = document.work_types
    return Profile(
        members=to_json(lasting_fields(record, tier, models, instances), inf_nan_mode="null")[1:-1],
        warnings=(*tier_warnings, *beat_warnings),
        announced=announced,
        facets=Facets(
            tier=tier,
            platform=document.platform,
            labels=frozenset((document.labels or {}).items()),
            models=frozenset(part for name in models or () for part in _spellings(name)),
            work_types=None if types is None else frozenset(name.lower() for name in types),
            managed=bool(document.managed),
            cores=cpu.cores or cpu.threads or 0,
            ram_mb=memory.total_mb or 0,
            gpu_count=len(vram),
            largest_vram_mb=max(vram, default=0),
            vram_mb=sum(vram),
        ),
        free_vram_mb=_first(said.available_vram_mb, _free_vram(document)),
        free_ram_mb=_first(said.available_memory_mb, memory.available_mb),
    )


def lasting_fields(
    record: NodeRecord, tier: Tier, models: list[str] | None, instances: Collection[InstanceFacts]
) -> JsonObject:
    """The fields of a `Node` that no heartbeat changes."""
    document = record.document
    cpu, memory, gpus = document.cpu or Cpu(), document.memory or Memory(), document.gpus or []
    vram = sum(gpu.vram_mb or 0 for gpu in gpus)
    return {
        **descriptive(document),
        "node_id": document.node_id,
        "hostname": document.hostname,
        "tier": tier,
        "declared_tier": document.declared_tier,
        "registered_at": record.registered_at,
        "cpu": cpu,
        "memory": memory,
        "gpus": gpus,
        "platform": document.platform,
        "ipv4": document.ipv4,
        "network": document.network or {},
        "labels": document.labels or {},
        "supported_models": models,
        "work_types": document.work_types,
        "slots": document.slots,
        "endpoints": _endpoints(document, instances),
        "boot_id": document.boot_id,
        "managed": document.managed,
        "compute_version": document.compute_version,
        "fenced": document.fenced,
        "own_subjects": document.own_subjects,
        "cpu_cores": cpu.cores,
        "cpu_threads": cpu.threads,
        "cpu_model": cpu.model_name,
        "memory_mb": memory.total_mb,
        "gpu_count": len(gpus),
        "gpu_vram_mb": vram,
        "gpu_vram_gb": mib_to_gib(vram),
        "gpu_models": [gpu.name for gpu in gpus],
        "measured": list(record.measured),
    }


def _spellings(name: str) -> tuple[str, str]:
    lower = name.lower()
    return lower, lower.rsplit("/", 1)[-1]


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _free_vram(document: NodeDocument) -> int | None:
    known = [gpu for gpu in document.gpus or [] if gpu.vram_mb is not None]
    if not known:
        return None
    return sum(max(0, (gpu.vram_mb or 0) - (gpu.vram_used_mb or 0)) for gpu in known)


def _models(document: NodeDocument, instances: Collection[InstanceFacts]) -> list[str] | None:
    """Declared names and those of instances that serve; None for a plain worker that declared nothing."""
    served = [name for instance in instances if instance.serves for name in instance.served_names]
    if not served and document.supported_models is None and not document.managed:
        return None
    return list(dict.fromkeys([*(document.supported_models or []), *served]))


def _endpoints(document: NodeDocument, instances: Collection[InstanceFacts]) -> JsonObject:
    serving = {item.instance_name: item.api for item in instances if item.ready and item.api}
    return {**(document.endpoints or {}), **serving}
