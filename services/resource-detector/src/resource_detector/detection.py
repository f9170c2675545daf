"""One detection: every source read once, in the order that later ones need."""

import re
from dataclasses import dataclass
from pathlib import Path

from compute_common.enums import Platform, Tier
from compute_common.tiers import GpuFacts, classify
from resource_detector.findings import GpuFound, Hardware, Notes
from resource_detector.sources.amd import read_amd
from resource_detector.sources.cgroups import Cgroups
from resource_detector.sources.cpu import read_cpu
from resource_detector.sources.host import read_host
from resource_detector.sources.memory import read_memory
from resource_detector.sources.nvidia import NvmlReader


@dataclass(frozen=True)
class Roots:
    """Where /proc and /sys are, so that a recorded tree can stand in for a host."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


def detect(roots: Roots, nvml: NvmlReader, hostname: str = "", disks: tuple[Path, ...] = ()) -> Hardware:
    """Everything about this host. Blocks; never raises for a part that cannot be read."""
    notes = Notes()
    cgroups = Cgroups(roots.proc, roots.sys, notes)
    cpu = read_cpu(roots.proc, roots.sys, cgroups, notes)
    memory = read_memory(roots.proc, cgroups, notes)
    nvidia = nvml.read(notes, memory.total_mb)
    amd = read_amd(roots.sys, notes, first_index=len(nvidia.gpus))
    host = read_host(roots.proc, hostname, list(disks), notes)
    if host.wsl:
        notes.warn("WSL2: GPU memory cannot be attributed to single processes")
    return Hardware(
        cpu=cpu,
        memory=memory,
        gpus=(*nvidia.gpus, *amd),
        host=host,
        sources=notes.sources,
        warnings=tuple(notes.warnings),
        cuda_version=nvidia.cuda_version,
    )


def tier_of(hardware: Hardware) -> tuple[Tier, str]:
    """The tier of this host and why."""
    return classify([facts(gpu) for gpu in hardware.gpus])


def facts(gpu: GpuFound) -> GpuFacts:
    return GpuFacts(gpu.name, gpu.vram_mb, gpu.bandwidth_gb_s, gpu.compute_capability, gpu.unified)


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
