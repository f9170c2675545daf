"""Which tier a node's hardware belongs to.

The cuts lie in the measured gaps between products, not at powers of two (a 5090 reports 32,607 MiB and a 4090
24,564). Memory in MiB, bandwidth in GB/s, compute capability (CC) as NVIDIA counts it.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from compute_common.enums import Tier

GB10_UNIFIED_MIN_MB = 64 * 1024


@dataclass(frozen=True)
class GpuFacts:
    """What classification needs of one GPU; None where it is unknown."""

    name: str
    vram_mb: int | None = None
    bandwidth_gb_s: float | None = None
    compute_capability: str | None = None
    unified: bool = False


def slice_facts(card: GpuFacts, slices: Iterable[tuple[str, int | None]]) -> list[GpuFacts]:
    """A card that is cut counts as its slices (name, MiB), each with its share of the bandwidth.

    MIG gives a slice whole memory channels, so bandwidth goes with memory.
    """
    return [
        replace(card, name=name, vram_mb=vram_mb, bandwidth_gb_s=_share(card, vram_mb))
        for name, vram_mb in slices
    ]


def _share(card: GpuFacts, vram_mb: int | None) -> float | None:
    if card.bandwidth_gb_s is None or not card.vram_mb or vram_mb is None:
        return None
    return card.bandwidth_gb_s * min(1.0, vram_mb / card.vram_mb)


@dataclass(frozen=True)
class _Cut:
    tier: Tier
    vram_mb: int
    bandwidth_gb_s: float
    capability: float


_CUTS = (_Cut(Tier.AI_FACTORY, 30_000, 700, 8.0), _Cut(Tier.GPU_PEER, 15_000, 500, 7.0))


def _capability(text: str | None) -> float | None:
    """CC as a number; AMD's gfx90a, gfx94x and newer count as 8.0; None where it says nothing."""
    if text is None:
        return None
    if number := re.fullmatch(r"(\d{1,2})\.(\d)", text.strip()):
        return int(number[1]) + int(number[2]) / 10
    if re.match(r"gfx(90a|9[4-9]|1[2-9])", text.strip().lower()):
        return 8.0
    return None


def classify_gpu(gpu: GpuFacts) -> tuple[Tier, str]:
    """The tier of one usable GPU, and why."""
    capability = _capability(gpu.compute_capability)
    if gpu.unified:
        big = (gpu.vram_mb or 0) >= GB10_UNIFIED_MIN_MB
        if big and capability is not None and capability >= 12.0:
            return (
                Tier.GPU_PEER,
                f"{gpu.name}: unified memory of at least 64 GiB and compute capability >= 12.0",
            )
        return Tier.GPU_INFRA, f"{gpu.name}: an integrated GPU on the system's own memory"
    if gpu.vram_mb is None:
        return Tier.GPU_INFRA, f"{gpu.name}: its memory size is unknown"
    for cut in _CUTS:
        if (
            gpu.vram_mb >= cut.vram_mb
            and (gpu.bandwidth_gb_s is None or gpu.bandwidth_gb_s >= cut.bandwidth_gb_s)
            and (capability is None or capability >= cut.capability)
        ):
            return cut.tier, f"{gpu.name}: {_facts(gpu)}, enough for {cut.tier} (from {cut.vram_mb} MiB)"
    return Tier.GPU_INFRA, f"{gpu.name}: {_facts(gpu)}, below the cuts of GPU_PEER"


def _facts(gpu: GpuFacts) -> str:
    bandwidth = "unknown bandwidth" if gpu.bandwidth_gb_s is None else f"{gpu.bandwidth_gb_s:.0f} GB/s"
    return f"{gpu.vram_mb} MiB, {bandwidth}, capability {gpu.compute_capability or 'unknown'}"


def classify(gpus: Sequence[GpuFacts]) -> tuple[Tier, str]:
    """The tier of a node: that of its best single GPU; CPU_ONLY without one."""
    if not gpus:
        return Tier.CPU_ONLY, "no usable GPU was found"
    return max((classify_gpu(gpu) for gpu in gpus), key=lambda verdict: verdict[0].rank)
