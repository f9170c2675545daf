"""A node's tier: what its hardware says, or what it declared where there is too little hardware to tell."""

from collections.abc import Iterable

from compute_common.enums import Tier
from compute_common.gpu_bandwidth import bandwidth_by_name
from compute_common.schemas.node import Gpu, NodeDocument
from compute_common.tiers import GpuFacts, classify, slice_facts


def tier_of(document: NodeDocument) -> tuple[Tier, list[str]]:
    """The tier, and a warning where the declared one differs from it."""
    declared = document.declared_tier
    measured, reason = classify([part for gpu in document.gpus or [] for part in facts(gpu)])
    if not _tells(document):
        return declared or measured, []
    if declared is not None and declared is not measured:
        return measured, [f"declared {declared}, but its hardware is {measured}: {reason}"]
    return measured, []


def facts(gpu: Gpu) -> list[GpuFacts]:
    """The card, or the slices it is cut into; an unknown bandwidth is looked up by the GPU's name."""
    bandwidth = gpu.bandwidth_gb_s
    if bandwidth is None:
        bandwidth = bandwidth_by_name(gpu.name, gpu.vram_mb)
    card = GpuFacts(gpu.name, gpu.vram_mb, bandwidth, gpu.compute_capability, gpu.unified)
    if gpu.schedulable:
        return [card]
    return slice_facts(card, ((part.name, part.vram_mb) for part in gpu.slices))


def memories(gpus: Iterable[Gpu]) -> list[int]:
    """MiB of each device that work can be put on: cards, and slices of the cards that are cut."""
    return [part.vram_mb or 0 for gpu in gpus for part in ((gpu,) if gpu.schedulable else gpu.slices)]


def _tells(document: NodeDocument) -> bool:
    """Whether the document says enough: an explicit list of GPUs, each memory known (or none there)."""
    if document.gpus is None:
        return False
    return not document.gpus or any(gpu.vram_mb is not None for gpu in document.gpus)
