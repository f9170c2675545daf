"""AMD GPUs from sysfs (amdgpu) and KFD; no ROCm library is needed."""

import re
from collections.abc import Iterator
from pathlib import Path

from compute_common.gpu_bandwidth import bandwidth_by_name
from resource_detector.findings import GpuFound, Notes

AMD_VENDOR = "0x1002"
LEAST_USABLE_MB = 2048  # less is an integrated display part's carve-out
MIB = 1 << 20
_NAMES = {
    "gfx942": "AMD Instinct MI300X",
    "gfx90a": "AMD Instinct MI250X (per GCD)",
    "gfx908": "AMD Instinct MI100",
    "gfx1100": "AMD Radeon RX 7900 XTX",
}


def read_amd(sys_root: Path, notes: Notes, first_index: int = 0) -> list[GpuFound]:
    """Every usable AMD GPU, numbered from `first_index`."""
    targets = _gfx_targets(sys_root)
    found: list[GpuFound] = []
    for device in _devices(sys_root):
        gpu = _read_device(device, targets, first_index + len(found))
        if gpu is None:
            notes.warn(f"AMD GPU {device.parent.name}: its memory size could not be read")
        elif (gpu.vram_mb or 0) < LEAST_USABLE_MB:
            notes.warn(f"AMD GPU {device.parent.name} is left out: only {gpu.vram_mb} MiB of its own")
        else:
            found.append(gpu)
            notes.source(f"gpus.{gpu.index}", f"/sys/class/drm/{device.parent.name}/device")
    return found


def _devices(sys_root: Path) -> Iterator[Path]:
    cards = (card for card in (sys_root / "class/drm").glob("card*") if re.fullmatch(r"card\d+", card.name))
    for card in sorted(cards, key=lambda path: int(path.name[4:])):
        if _text(card / "device/vendor") == AMD_VENDOR:
            yield card / "device"


def _read_device(device: Path, targets: dict[int, str], index: int) -> GpuFound | None:
    total = _number(device / "mem_info_vram_total")
    if total is None:
        return None
    used = _number(device / "mem_info_vram_used")
    busy = _number(device / "gpu_busy_percent")
    target = targets.get(_render_minor(device) or -1)
    name = _text(device / "product_name") or _NAMES.get(target or "", "AMD GPU")
    unique = _text(device / "unique_id")
    return GpuFound(
        index=index,
        name=name,
        vendor="amd",
        vram_mb=total // MIB,
        vram_used_mb=None if used is None else used // MIB,
        uuid=f"AMD-{unique}" if unique else None,
        compute_capability=target,
        bandwidth_gb_s=bandwidth_by_name(name),
        utilization=None if busy is None else min(100, busy) / 100,
        link_kind="xgmi",
    )


def _render_minor(device: Path) -> int | None:
    names = (path.name for path in (device / "drm").glob("renderD*"))
    return next((int(name[7:]) for name in names if name[7:].isdigit()), None)


def _gfx_targets(sys_root: Path) -> dict[int, str]:
    """KFD's gfx target by DRM render minor."""
    found = {}
    for node in (sys_root / "class/kfd/kfd/topology/nodes").glob("*/properties"):
        values = dict(line.split(maxsplit=1) for line in (_text(node) or "").splitlines() if " " in line)
        version, minor = values.get("gfx_target_version", "0"), values.get("drm_render_minor", "0")
        if version.isdigit() and minor.isdigit() and int(version) > 0:
            found[int(minor)] = gfx_name(int(version))
    return found


def gfx_name(version: int) -> str:
    """KFD's 90010 as gfx90a, 90402 as gfx942, 110000 as gfx1100."""
    major, minor, stepping = version // 10_000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isascii() and text.isdigit() else None
