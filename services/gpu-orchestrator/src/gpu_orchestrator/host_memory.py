"""This host's RAM as a container may use it: the least of the machine and of every cgroup above us."""

from pathlib import Path

import psutil

from gpu_orchestrator.devices import RamReading

_MIB = 1024 * 1024
_NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as a number near 2^63


def read_ram(root: Path = Path("/")) -> RamReading:
    """Total and available MiB; `root` is where proc and sys are looked for (tests pass a recorded tree)."""
    info = _meminfo(root / "proc/meminfo")
    gpu_total, gpu_free = _memory_of_gpus(root / "sys/devices/system/node")
    machine_total = max(0, info["MemTotal"] - gpu_total)
    machine_available = min(machine_total, max(0, info["MemAvailable"] - gpu_free))
    total, available = machine_total, machine_available
    for limit, used in cgroup_limits(root):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return RamReading(
        total_mb=total // _MIB,
        available_mb=min(available, total) // _MIB,
        swap_total_mb=info.get("SwapTotal", 0) // _MIB,
        swap_free_mb=info.get("SwapFree", 0) // _MIB,
        pressure=_pressure(root / "proc/pressure/memory"),
        machine_total_mb=machine_total // _MIB,
        machine_available_mb=machine_available // _MIB,
    )


def cgroup_limits(root: Path = Path("/")) -> list[tuple[int, int]]:
    """(limit, unreclaimable use) in bytes of every memory cgroup from ours to the root that has a limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        found += _walk(top, path, names)
    return found


def _walk(top: Path, path: str, names: tuple[str, str, str]) -> list[tuple[int, int]]:
    folder = top / path.lstrip("/")
    if not folder.is_dir():
        folder = top  # a container sees its own cgroup as the root, whatever path it is told
    found = []
    while True:
        limit = _number(folder / names[0])
        if limit is not None and limit < _NO_LIMIT:
            used = _number(folder / names[1]) or 0
            found.append((limit, max(0, used - _stat(folder / "memory.stat", names[2]))))
        if folder == top or top not in folder.parents:
            return found
        folder = folder.parent


def _memory_of_gpus(nodes: Path) -> tuple[int, int]:
    """Bytes, total and free, of NUMA nodes without CPUs: the HBM of a GH200, which MemTotal counts as RAM."""
    total = free = 0
    for node in sorted(nodes.glob("node[0-9]*")):
        try:
            if (node / "cpulist").read_text().strip():
                continue
            lines = (node / "meminfo").read_text().splitlines()
        except OSError:
            continue
        sizes = dict(line.split(maxsplit=2)[2].split(":", 1) for line in lines if line.count(":") == 1)
        total += _kib(sizes.get("MemTotal", ""))
        free += _kib(sizes.get("MemFree", ""))
    return total, free


def _meminfo(path: Path) -> dict[str, int]:
    """Bytes by name; from psutil where there is no such file (not Linux)."""
    try:
        pairs = (line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        info = {name: _kib(rest) for name, rest in pairs}
    except OSError:
        info = {}
    if "MemTotal" in info and "MemAvailable" in info:
        return info
    host, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "MemTotal": int(host.total),
        "MemAvailable": int(host.available),
        "SwapTotal": int(swap.total),
        "SwapFree": int(swap.free),
    }


def _kib(text: str) -> int:
    first = text.split(maxsplit=1)[0] if text.split() else ""
    return int(first) * 1024 if first.isascii() and first.isdigit() else 0


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _stat(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key + " ")), 0)


def _pressure(path: Path) -> float | None:
    """PSI `some avg10`, percent."""
    try:
        first = path.read_text().split("\n", 1)[0]
        return float(dict(part.split("=") for part in first.split()[1:])["avg10"])
    except (OSError, ValueError, KeyError, IndexError):
        return None
