"""RAM and swap as this process really has them: the least of the machine and every control group above it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resource_detector.findings import MemoryFound, Notes, NumaNode
from resource_detector.sources.cgroups import Cgroups

MIB = 1 << 20


def read_memory(proc_root: Path, cgroups: Cgroups, notes: Notes) -> MemoryFound:
    """Total, available and swap in MiB; zero where nothing could be read."""
    info = _meminfo(proc_root, notes)
    total, available = info.get("MemTotal", 0), info.get("MemAvailable", info.get("MemFree", 0))
    notes.source("memory.total_mb", "/proc/meminfo MemTotal")
    notes.source("memory.available_mb", "/proc/meminfo MemAvailable")
    host_total, host_available = total, available
    for limit in cgroups.memory_limits():
        if limit.limit < total:
            total = limit.limit
            notes.source("memory.total_mb", limit.where)
        left = max(0, limit.limit - limit.used)
        if left < available:
            available = left
            notes.source("memory.available_mb", f"{limit.where} less what is used")
    swap_total, swap_free = _swap(info, cgroups)
    notes.source("memory.swap_total_mb", "/proc/meminfo SwapTotal")
    return MemoryFound(
        total_mb=total // MIB,
        available_mb=min(available, total) // MIB,
        host_total_mb=host_total // MIB,
        host_available_mb=host_available // MIB,
        swap_total_mb=swap_total // MIB,
        swap_free_mb=swap_free // MIB,
    )


def without_gpu_memory(memory: MemoryFound, numa: Sequence[NumaNode], notes: Notes) -> MemoryFound:
    """A coherent GPU's own memory is a NUMA node without CPUs, and /proc/meminfo counts it as RAM."""
    gpu_mb = sum(node.memory_mb for node in numa if not node.cpus)
    host = max(0, memory.host_total_mb - gpu_mb)
    if not gpu_mb or not host:
        return memory
    if memory.total_mb > host:
        notes.source("memory.total_mb", "/proc/meminfo MemTotal less the NUMA nodes of GPU memory")
    return replace(
        memory,
        host_total_mb=host,
        host_available_mb=min(memory.host_available_mb, host),
        total_mb=min(memory.total_mb, host),
        available_mb=min(memory.available_mb, host),
    )


def _swap(info: dict[str, int], cgroups: Cgroups) -> tuple[int, int]:
    total, free = info.get("SwapTotal", 0), info.get("SwapFree", 0)
    limit = cgroups.swap_limit()
    if limit is not None and limit < total:
        return limit, min(free, limit)
    return total, free


def _meminfo(proc_root: Path, notes: Notes) -> dict[str, int]:
    """/proc/meminfo in bytes; psutil where there is no such file (not Linux)."""
    path = proc_root / "meminfo"
    if not path.exists():
        return notes.attempt("memory", _from_psutil) or {}
    text = notes.attempt("meminfo", path.read_text) or ""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[0] if rest.split() else ""
        if number.isascii() and number.isdigit():
            found[name] = int(number) * 1024
    return found


def _from_psutil() -> dict[str, int]:
    import psutil  # noqa: PLC0415 - only where /proc is missing

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "MemTotal": memory.total,
        "MemAvailable": memory.available,
        "SwapTotal": swap.total,
        "SwapFree": swap.free,
    }
