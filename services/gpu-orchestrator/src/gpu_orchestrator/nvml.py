"""NVIDIA GPUs through NVML: every optional value may fail alone; no library means no GPUs, not an error."""

import ctypes
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import structlog

from gpu_orchestrator.devices import GpuProcess, GpuReading

log = structlog.get_logger("nvml")

RETRY_SECONDS = 30.0
_MIB = 1024 * 1024
_NVLINK_MAX = 18


class Nvml:
    """Opened at the first reading; looked for again every 30 s while it is not there. For one thread."""

    def __init__(self) -> None:
        self._pynvml: Any = None
        self._errors: tuple[type[Exception], ...] = ()
        self._next_try = 0.0
        self._lost: dict[int, GpuReading] = {}
        self._links: dict[int, frozenset[int]] = {}
        self.detail: str | None = "not looked for yet"

    def read(self) -> tuple[GpuReading, ...]:
        """Every GPU now; one that answered before and fails now is reported with its health."""
        if self._pynvml is None and not self._open():
            return ()
        count = self._try(lambda n: n.nvmlDeviceGetCount(), None)
        if count is None:
            self._close("the driver stopped answering (driver upgrade, or every GPU lost)")
            return tuple(_failed(gpu) for gpu in self._lost.values())
        return tuple(gpu for index in range(count) if (gpu := self._gpu(index)) is not None)

    def close(self) -> None:
        self._close("closed")

    def _open(self) -> bool:
        if time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + RETRY_SECONDS
        try:
            ctypes.CDLL("libnvidia-ml.so.1")  # before the import: on a host without, nothing is loaded
        except OSError:
            self.detail = None
            return False
        import pynvml  # noqa: PLC0415

        # NVMLLibraryMismatchError is not an NVMLError; names and strings may fail to decode
        self._errors = (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError, UnicodeDecodeError, OSError)
        try:
            pynvml.nvmlInit()
        except self._errors as error:
            self.detail = f"NVML is there and does not start ({type(error).__name__}); is the driver loaded?"
            log.warning("nvml not usable", reason=type(error).__name__)
            return False
        self._pynvml, self.detail = pynvml, None
        return True

    def _close(self, why: str) -> None:
        if self._pynvml is not None:
            self._try(lambda n: n.nvmlShutdown(), None)
        self._pynvml, self.detail = None, why
        self._links.clear()

    def _try(self, call: Callable[[Any], Any], default: Any) -> Any:
        try:
            return call(self._pynvml)
        except self._errors:
            return default

    def _gpu(self, index: int) -> GpuReading | None:
        handle = self._try(lambda n: n.nvmlDeviceGetHandleByIndex(index), None)
        memory = self._try(lambda n: n.nvmlDeviceGetMemoryInfo(handle), None) if handle else None
        if memory is None:
            known = self._lost.get(index)
            if known is not None:
                return _failed(known)
            return GpuReading(index, f"gpu-{index}", "GPU", 0, 0, health="memory unreadable")
        processes = self._processes(handle)
        reading = GpuReading(
            index=index,
            uuid=str(self._try(lambda n: n.nvmlDeviceGetUUID(handle), f"gpu-{index}")),
            name=str(self._try(lambda n: n.nvmlDeviceGetName(handle), "GPU")),
            total_mb=int(memory.total) // _MIB,
            used_mb=int(memory.used) // _MIB,
            utilization=self._ratio(handle),
            temperature_c=self._try(lambda n: float(n.nvmlDeviceGetTemperature(handle, 0)), None),
            power_w=self._try(lambda n: n.nvmlDeviceGetPowerUsage(handle) / 1000, None),
            processes=processes or (),
            processes_readable=processes is not None,
            health="ok" if memory.total else "memory unreadable",
            links=self._linked(index, handle),
        )
        self._lost[index] = reading
        return reading

    def _ratio(self, handle: Any) -> float | None:
        percent = self._try(lambda n: n.nvmlDeviceGetUtilizationRates(handle).gpu, None)
        return None if percent is None else percent / 100

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...] | None:
        """None where the driver does not list them."""
        found: dict[int, GpuProcess] = {}
        readable = False
        for name in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            rows = self._try(methodcaller(name, handle), None)
            readable = readable or rows is not None
            for row in rows or ():
                used = None if row.usedGpuMemory is None else int(row.usedGpuMemory) // _MIB
                found.setdefault(int(row.pid), GpuProcess(int(row.pid), used))
        return tuple(found.values()) if readable else None

    def _linked(self, index: int, handle: Any) -> frozenset[int]:
        """Indices of GPUs with an NVLink path to this one; read once, links do not move."""
        if index not in self._links:
            self._links[index] = frozenset(self._peers(index, handle))
        return self._links[index]

    def _peers(self, index: int, handle: Any) -> set[int]:
        if not any(self._link_up(handle, link) for link in range(_NVLINK_MAX)):
            return set()
        count = self._try(lambda n: n.nvmlDeviceGetCount(), 0)
        return {other for other in range(count) if other != index and self._p2p(handle, other)}

    def _link_up(self, handle: Any, link: int) -> bool:
        return bool(self._try(lambda n: n.nvmlDeviceGetNvLinkState(handle, link), 0))

    def _p2p(self, handle: Any, other: int) -> bool:
        peer = self._try(lambda n: n.nvmlDeviceGetHandleByIndex(other), None)
        if peer is None:
            return False
        status = self._try(
            lambda n: n.nvmlDeviceGetP2PStatus(handle, peer, n.NVML_P2P_CAPS_INDEX_NVLINK), None
        )
        return bool(status == 0)


def _failed(gpu: GpuReading) -> GpuReading:
    return GpuReading(gpu.index, gpu.uuid, gpu.name, gpu.total_mb, gpu.total_mb, health="lost")
