"""AMD GPUs from sysfs (amdgpu) and KFD; no ROCm library is needed."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from compute_common.gpu_bandwidth import bandwidth_by_name
from resource_detector.findings import GpuFound, Notes
from resource_detector.sources.kfd import KfdNode, links_of, read_nodes

AMD_VENDOR = "0x1002"
LEAST_USABLE_MB = 2048  # less is an integrated display part's carve-out
MIB = 1 << 20
MOST_TEXT = 256
# PCI device ids (pci.ids); a Navi 31 or 48 id names several products, told apart by memory.
_NAMES = {
    "0x738c": "AMD Instinct MI100",
    "0x7408": "AMD Instinct MI250X (per GCD)",
    "0x740c": "AMD Instinct MI250X (per GCD)",
    "0x740f": "AMD Instinct MI210",
    "0x74a1": "AMD Instinct MI300X",
    "0x74a2": "AMD Instinct MI308X",
    "0x74a5": "AMD Instinct MI325X",
    "0x75a0": "AMD Instinct MI350X",
    "0x75a3": "AMD Instinct MI355X",
    "0x7448": "AMD Radeon PRO W7900",
    "0x1586": "AMD Radeon 8060S",
}
_NAVI_31 = (
    (24_000, "AMD Radeon RX 7900 XTX"),
    (20_000, "AMD Radeon RX 7900 XT"),
    (0, "AMD Radeon RX 7900 GRE"),
)
_BY_TARGET = {
    "gfx942": "AMD Instinct MI300X",
    "gfx90a": "AMD Instinct MI250X (per GCD)",
    "gfx908": "AMD Instinct MI100",
}
# Processors with graphics: what they call VRAM is carved out of the system's RAM.
_INTEGRATED = {"gfx90c", "gfx1035", "gfx1036", "gfx1103", "gfx1150", "gfx1151", "gfx1152"}
_GENERATIONS = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}


def read_amd(sys_root: Path, notes: Notes, first_index: int = 0) -> list[GpuFound]:
    """Every usable AMD GPU, numbered from `first_index`, with its XGMI links."""
    nodes = read_nodes(sys_root)
    driver = _text(sys_root / "module/amdgpu/version")
    found: list[tuple[GpuFound, KfdNode | None]] = []
    for device in _devices(sys_root):
        node = nodes.get(_render_minor(device) or -1)
        gpu = _read_device(device, node, first_index + len(found), notes)
        if gpu is None:
            notes.warn(f"AMD GPU {device.parent.name}: its memory size could not be read; it is left out")
        elif (gpu.vram_mb or 0) < LEAST_USABLE_MB:
            notes.warn(f"AMD GPU {device.parent.name} is left out: only {gpu.vram_mb} MiB of its own")
        else:
            found.append((replace(gpu, driver_version=driver), node))
            _sources(gpu, device, notes)
            if node is not None:
                notes.source(
                    f"gpus.{gpu.index}.links", f"/sys/class/kfd topology node {node.number} io_links"
                )
    index_of = {node.number: gpu.index for gpu, node in found if node is not None}
    return [gpu if node is None else replace(gpu, links=links_of(node, index_of)) for gpu, node in found]


def _devices(sys_root: Path) -> Iterator[Path]:
    cards = (card for card in (sys_root / "class/drm").glob("card*") if re.fullmatch(r"card\d+", card.name))
    for card in sorted(cards, key=lambda path: int(path.name[4:])):
        if _text(card / "device/vendor") == AMD_VENDOR:
            yield card / "device"


def _read_device(device: Path, node: KfdNode | None, index: int, notes: Notes) -> GpuFound | None:
    total = _number(device / "mem_info_vram_total")
    if total is None:
        return None
    vram_mb = total // MIB
    used = _number(device / "mem_info_vram_used")
    busy = _number(device / "gpu_busy_percent")
    target = node.target if node else None
    name = product_name(_text(device / "product_name"), _text(device / "device"), target, vram_mb)
    unique = _text(device / "unique_id")
    if target is None:
        notes.warn(f"AMD GPU {device.parent.name}: KFD does not know it; ROCm cannot use it")
    return GpuFound(
        index=index,
        name=name,
        vendor="amd",
        vram_mb=vram_mb,
        vram_used_mb=None if used is None else used // MIB,
        uuid=f"AMD-{unique}" if unique else None,
        compute_capability=target,
        bandwidth_gb_s=bandwidth_by_name(name, vram_mb),
        utilization=None if busy is None else min(100, busy) / 100,
        unified=target in _INTEGRATED,
        pci_bus_id=_slot(device),
        pcie_generation=_GENERATIONS.get((_text(device / "max_link_speed") or "").split(" ")[0]),
        pcie_width=_number(device / "max_link_width"),
        temperature_c=_sensor(device, ("temp1_input", "temp2_input"), 1000),
        power_w=_sensor(device, ("power1_average", "power1_input"), 1_000_000),
        power_limit_w=_sensor(device, ("power1_cap",), 1_000_000),
    )


def product_name(told: str | None, device_id: str | None, target: str | None, vram_mb: int) -> str:
    """What the card says, else what its PCI id (or gfx target) says."""
    if told:
        return told if told.upper().startswith("AMD") else f"AMD {told}"
    if device_id == "0x744c":
        return next(name for least, name in _NAVI_31 if vram_mb >= least)
    return _NAMES.get(device_id or "") or _BY_TARGET.get(target or "") or f"AMD GPU ({target or device_id})"


def _sources(gpu: GpuFound, device: Path, notes: Notes) -> None:
    where = f"/sys/class/drm/{device.parent.name}/device"
    read = {
        "name": f"{where}/product_name" if (device / "product_name").exists() else f"{where}/device (PCI id)",
        "vram_mb": f"{where}/mem_info_vram_total",
        "vram_used_mb": f"{where}/mem_info_vram_used",
        "uuid": f"{where}/unique_id",
        "compute_capability": "/sys/class/kfd topology gfx_target_version",
        "bandwidth_gb_s": "table by name",
        "utilization": f"{where}/gpu_busy_percent",
        "pci_bus_id": f"{where}/uevent",
        "pcie_generation": f"{where}/max_link_speed",
        "pcie_width": f"{where}/max_link_width",
        "temperature_c": f"{where}/hwmon",
        "power_w": f"{where}/hwmon",
        "power_limit_w": f"{where}/hwmon",
    }
    untold = [field for field in read if getattr(gpu, field) is None]
    for field, source in read.items():
        if field not in untold:
            notes.source(f"gpus.{gpu.index}.{field}", source)
    if untold:
        notes.warn(f"GPU {gpu.index} does not tell {', '.join(untold)}")


def _slot(device: Path) -> str | None:
    found = re.search(r"^PCI_SLOT_NAME=(\S+)$", _text(device / "uevent") or "", re.MULTILINE)
    return found[1] if found else None


def _sensor(device: Path, names: tuple[str, ...], divisor: int) -> float | None:
    for name in names:
        for path in sorted((device / "hwmon").glob(f"hwmon*/{name}")):
            if (value := _number(path)) is not None:
                return round(value / divisor, 1)
    return None


def _render_minor(device: Path) -> int | None:
    names = (path.name for path in (device / "drm").glob("renderD*"))
    return next((int(name[7:]) for name in names if name[7:].isdigit()), None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()[:MOST_TEXT] or None
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isascii() and text.isdigit() else None
