"""Memory of one NVML handle (a card or a slice): total, used, and which processes use it."""

from dataclasses import dataclass
from typing import Any

from gpu_orchestrator.answers import Answers
from gpu_orchestrator.devices import GpuProcess

MIB = 1024 * 1024
MOST_MB = 1 << 24  # 16 TiB: more is a driver's nonsense
MOST_PROCESSES = 1024
MOST_PID = 1 << 22
_LISTS = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetGraphicsRunningProcesses",
    "nvmlDeviceGetMPSComputeRunningProcesses",
)


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB; what its driver reserves for itself is used."""

    total_mb: int
    used_mb: int


def read_memory(answers: Answers, handle: Any) -> Memory | None:
    """None where it is not told, or cannot be true."""
    told = answers.ask("nvmlDeviceGetMemoryInfo", handle)
    if told is None or not 0 < (total := int(told.total) // MIB) <= MOST_MB:
        return None
    return Memory(total, min(total, -(-int(told.used) // MIB)))


def read_processes(answers: Answers, handle: Any, total_mb: int) -> tuple[GpuProcess, ...] | None:
    """Whoever uses the GPU; None where the driver does not list the computing ones.

    A process that computes and draws is listed twice with the same size.
    """
    found: dict[int, GpuProcess] = {}
    for name in _LISTS:
        rows = answers.ask(name, handle)
        if rows is None and name == _LISTS[0]:
            return None
        for row in (rows or ())[:MOST_PROCESSES]:
            process = _process(int(row.pid), row.usedGpuMemory, total_mb)
            if process is not None and (process.pid not in found or found[process.pid].used_mb is None):
                found[process.pid] = process
    return tuple(found.values())


def _process(pid: int, used: int | None, total_mb: int) -> GpuProcess | None:
    if not 0 < pid <= MOST_PID:
        return None
    used_mb = None if used is None else int(used) // MIB
    return GpuProcess(pid, used_mb if used_mb is not None and 0 <= used_mb <= total_mb else None)
