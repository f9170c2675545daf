"""A node's tier: what its hardware says, or what it declared where there is too little hardware to tell."""

from compute_common.enums import Tier
from compute_common.gpu_bandwidth import bandwidth_by_name
from compute_common.schemas.node import Gpu, NodeDocument
from compute_common.tiers import GpuFacts, classify


def tier_of(document: NodeDocument) -> tuple[Tier, list[str]]:
    """The tier, and a warning where the declared one differs from it."""
    declared = document.declared_tier
    measured, reason = classify([facts(gpu) for gpu in document.gpus or []])
    if not _tells(document):
        return declared or measured, []
    if declared is not None and declared is not measured:
        return measured, [f"declared {declared}, but its hardware is {measured}: {reason}"]
    return measured, []


def facts(gpu: Gpu) -> GpuFacts:
    """What classification needs; an unknown bandwidth is looked up by the GPU's name."""
    bandwidth = gpu.bandwidth_gb_s
    if bandwidth is None:
        bandwidth = bandwidth_by_name(gpu.name, gpu.vram_mb)
    return GpuFacts(gpu.name, gpu.vram_mb, bandwidth, gpu.compute_capability, gpu.unified)


def _tells(document: NodeDocument) -> bool:
    """Whether the document says enough: an explicit list of GPUs, each memory known (or none there)."""
    if document.gpus is None:
        return False
    return not document.gpus or any(gpu.vram_mb is not None for gpu in document.gpus)
