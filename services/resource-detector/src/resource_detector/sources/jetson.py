"""NVIDIA Jetson boards, whose NVML is absent or partial: known by their release file or device tree."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compute_common.gpu_bandwidth import bandwidth_by_name
from resource_detector.findings import GpuFound, Notes
from resource_detector.sources.nvidia import SystemRam

# Module by the words of its device-tree model → GPU as NVML would name it, compute capability.
_MODULES = (
    ("thor", "NVIDIA Thor", "11.0"),
    ("orin", "Orin (nvgpu)", "8.7"),
    ("xavier", "Xavier (nvgpu)", "7.2"),
    ("tx2", "Tegra TX2 (nvgpu)", "6.2"),
    ("nano", "Tegra X1 (nvgpu)", "5.3"),
)
_FIELDS = ("name", "vram_mb", "vram_used_mb", "compute_capability", "bandwidth_gb_s")


def read_jetson(proc_root: Path, etc_root: Path, ram: SystemRam, notes: Notes) -> GpuFound | None:
    """The board's GPU; None where this is no Jetson. Its memory is the system's."""
    release = _text(etc_root / "nv_tegra_release")
    model = _text(proc_root / "device-tree/model") or ""
    if release is None and "jetson" not in model.lower():
        return None
    known = next((entry for entry in _MODULES if entry[0] in model.lower()), None)
    name, capability = (known[1], known[2]) if known else ("Tegra (nvgpu)", None)
    if known is None:
        notes.warn("a Jetson of unknown module: its compute capability is not known")
    return GpuFound(
        index=0,
        name=name,
        vendor="nvidia",
        vram_mb=ram.total_mb,
        vram_used_mb=ram.used_mb,
        compute_capability=capability,
        bandwidth_gb_s=bandwidth_by_name(model) or bandwidth_by_name(name),
        driver_version=_l4t(release),
        unified=True,
    )


def with_board(told: Sequence[GpuFound], board: GpuFound, notes: Notes) -> tuple[GpuFound, ...]:
    """What a partial NVML told of the board's only GPU, the rest from the board; without NVML, the board."""
    if len(told) > 1:
        return tuple(told)
    gpu = told[0] if told else board
    missing = {field for field in _FIELDS if not told or getattr(gpu, field) is None}
    known = {field: value for field in missing if (value := getattr(board, field)) is not None}
    for field in known:
        memory = field.startswith("vram")
        notes.source(
            f"gpus.0.{field}", "/proc/meminfo (unified memory)" if memory else "/proc/device-tree/model"
        )
    return (replace(gpu, **known),)


def _l4t(release: str | None) -> str | None:
    """`# R36 (release), REVISION: 4.3, …` as `L4T 36.4.3`."""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release or "")
    return f"L4T {found[1]}.{found[2]}" if found else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip(" \0\n") or None
    except OSError:
        return None
