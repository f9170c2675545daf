"""This host's RAM as a container may use it: the least of the machine and of every cgroup above us."""

from pathlib import Path

import psutil

from gpu_orchestrator.devices import RamReading

_MIB = 1024 * 1024
_NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as a number near 2^63


def read_ram(root: Path = Path("/")) -> RamReading:
    """Total and available MiB; `root` is where proc and sys are looked for (tests pass a recorded tree)."""
    host = psutil.virtual_memory()
    swap = psutil.swap_memory()
    total, available = int(host.total), int(host.available)
    for limit, used in cgroup_limits(root):
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return RamReading(
        total_mb=total // _MIB,
        available_mb=available // _MIB,
        swap_total_mb=int(swap.total) // _MIB,
        swap_free_mb=int(swap.free) // _MIB,
        pressure=_pressure(root / "proc/pressure/memory"),
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


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


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
