"""One detection: every source read once, in the order that later ones need."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from compute_common.enums import Platform, Tier
from compute_common.tiers import GpuFacts, classify, slice_facts
from resource_detector.findings import GpuFound, Hardware, Notes
from resource_detector.sources.amd import read_amd
from resource_detector.sources.cgroups import Cgroups
from resource_detector.sources.cpu import read_cpu
from resource_detector.sources.host import read_host
from resource_detector.sources.jetson import read_jetson, with_board
from resource_detector.sources.memory import read_memory, without_gpu_memory
from resource_detector.sources.nvidia import NvmlReader, SystemRam


@dataclass(frozen=True)
class Roots:
    """Where /proc and /sys are, so that a recorded tree can stand in for a host."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")

    @classmethod
    def under(cls, root: Path) -> "Roots":
        """The three below another root than `/`."""
        return cls(root / "proc", root / "sys", root / "etc")


def detect(roots: Roots, nvml: NvmlReader, hostname: str = "", disks: tuple[Path, ...] = ()) -> Hardware:
    """Everything about this host. Blocks; never raises for a part that cannot be read."""
    notes = Notes()
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    cpu = read_cpu(roots.proc, roots.sys, cgroups, notes)
    memory = read_memory(roots.proc, cgroups, notes)
    host = read_host(roots.proc, hostname, list(disks), notes)
    ram = SystemRam(memory.host_total_mb, memory.host_total_mb - memory.host_available_mb)
    nvidia = nvml.read(notes, ram)
    board = read_jetson(roots.proc, roots.etc, ram, notes)
    if board is not None:
        nvidia = replace(nvidia, gpus=with_board(nvidia.gpus, board, notes))
    amd = read_amd(roots.sys, notes, first_index=len(nvidia.gpus))
    gpus = (*nvidia.gpus, *amd)
    if host.wsl and gpus:
        notes.warn("WSL2: GPU memory cannot be attributed to single processes")
    return Hardware(
        cpu=cpu,
        memory=without_gpu_memory(memory, cpu.numa, notes) if any(gpu.coherent for gpu in gpus) else memory,
        gpus=gpus,
        host=host,
        sources=notes.sources,
        warnings=tuple(notes.warnings),
        driver_version=nvidia.driver or (board.driver_version if board else None),
        cuda_version=nvidia.cuda_version,
    )


def tier_of(hardware: Hardware) -> tuple[Tier, str]:
    """The tier of this host and why; a card in MIG mode counts as its slices, and the reason says so."""
    tier, reason = classify([part for gpu in hardware.gpus for part in facts(gpu)])
    cut = [gpu for gpu in hardware.gpus if gpu.mig]
    if cut:
        largest = max((part.vram_mb or 0 for gpu in cut for part in gpu.slices), default=0)
        count = sum(len(gpu.slices) for gpu in cut)
        cards = f"{len(cut)} of {len(hardware.gpus)} GPUs"
        reason += f"; {cards} cut into {count} MIG slices, the largest {largest} MiB"
    return tier, reason


def facts(gpu: GpuFound) -> list[GpuFacts]:
    """The card, or the slices it is cut into."""
    card = GpuFacts(gpu.name, gpu.vram_mb, gpu.bandwidth_gb_s, gpu.compute_capability, gpu.unified)
    if not gpu.mig:
        return [card]
    return slice_facts(card, ((part.name, part.vram_mb) for part in gpu.slices))


def platform_of(hardware: Hardware) -> Platform:
    """What engines run on here: CUDA before ROCm before Metal before the CPU."""
    vendors = {gpu.vendor for gpu in hardware.gpus}
    if "nvidia" in vendors:
        return Platform.CUDA
    if "amd" in vendors:
        return Platform.ROCM
    if hardware.host.os == "darwin" and hardware.host.machine == "arm64":
        return Platform.METAL
    return Platform.CPU


def capability_number(gpu: GpuFound) -> float | None:
    """NVIDIA's compute capability as a number; None for other vendors."""
    text = gpu.compute_capability or ""
    return float(text) if re.fullmatch(r"\d{1,2}\.\d", text) else None
