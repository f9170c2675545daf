"""NVIDIA GPUs through NVML (`nvidia-ml-py`). Every optional read may fail alone.

`NVMLLibraryMismatchError` is not an `NVMLError`: old drivers raise it for single calls.
"""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from compute_common.gpu_bandwidth import bandwidth_by_name
from resource_detector.findings import GpuFound, Notes

T = TypeVar("T")
MIB = 1 << 20
MOST_GPUS = 512
MOST_LINK_PAIRS = 16  # GPUs among which links are asked for pair by pair
_INTEGRATED = ("GB10", "Orin", "Xavier", "Thor", "Tegra")


@dataclass(frozen=True)
class Nvidia:
    gpus: tuple[GpuFound, ...] = ()
    cuda_version: str | None = None


@dataclass(frozen=True)
class _Host:
    """What every GPU's reading shares."""

    notes: Notes
    system_ram_mb: int
    driver: str | None
    links: dict[int, tuple[int, ...]]


def library_present() -> bool:
    """Whether NVML can be loaded; asked before pynvml is imported, which costs memory."""
    if sys.platform != "linux":
        return sys.platform == "win32"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


class NvmlReader:
    """Holds NVML open between readings; all calls belong to one thread. `api` is the module pynvml."""

    def __init__(self, api: Any = None) -> None:
        self._api = api
        self._open = False

    def read(self, notes: Notes, system_ram_mb: int) -> Nvidia:
        """Every usable NVIDIA GPU; none, with a reason, where NVML does not answer."""
        if not self._start(notes):
            return Nvidia()
        count = self._try(notes, "the number of GPUs", self._api.nvmlDeviceGetCount)
        if count is None:
            self.close()  # a driver that was reloaded wants a new start
            return Nvidia()
        driver = self._try(notes, "driver version", self._api.nvmlSystemGetDriverVersion)
        handles = {
            index: handle
            for index in range(min(count, MOST_GPUS))
            if (handle := self._handle(index, notes)) is not None
        }
        host = _Host(notes, system_ram_mb, _text(driver), self._links(handles))
        found = [
            gpu for index, handle in handles.items() if (gpu := self._gpu(index, handle, host)) is not None
        ]
        return Nvidia(tuple(found), self._cuda())

    def close(self) -> None:
        if self._open:
            self._quiet(self._api.nvmlShutdown)
            self._open = False

    # --- one GPU

    def _gpu(self, index: int, handle: Any, host: _Host) -> GpuFound | None:
        api, notes = self._api, host.notes
        name = _text(self._try(notes, f"GPU {index}: name", lambda: api.nvmlDeviceGetName(handle)))
        if name is None:
            return None
        unified = any(part in name for part in _INTEGRATED)
        total, used = self._memory(index, handle, host, unified)
        rates = self._quiet(lambda: api.nvmlDeviceGetUtilizationRates(handle))
        notes.source(f"gpus.{index}", "NVML")
        return GpuFound(
            index=index,
            name=name,
            vendor="nvidia",
            vram_mb=total,
            vram_used_mb=used,
            uuid=_text(self._quiet(lambda: api.nvmlDeviceGetUUID(handle))),
            compute_capability=self._capability(handle),
            bandwidth_gb_s=self._bandwidth(index, handle, name, notes),
            driver_version=host.driver,
            utilization=None if rates is None else min(100, int(rates.gpu)) / 100,
            unified=unified,
            linked_to=host.links.get(index, ()),
        )

    def _handle(self, index: int, notes: Notes) -> Any:
        what = f"GPU {index} (lost or not answering; it is left out)"
        return self._try(notes, what, lambda: self._api.nvmlDeviceGetHandleByIndex(index))

    def _memory(self, index: int, handle: Any, host: _Host, unified: bool) -> tuple[int | None, int | None]:
        memory = self._quiet(lambda: self._api.nvmlDeviceGetMemoryInfo(handle))
        if memory is not None and memory.total:
            return int(memory.total) // MIB, int(memory.used) // MIB
        if unified:
            host.notes.source(f"gpus.{index}.vram_mb", "the system's RAM (unified memory)")
            return host.system_ram_mb, None
        host.notes.warn(f"GPU {index}: memory size could not be read")
        return None, None

    def _capability(self, handle: Any) -> str | None:
        pair = self._quiet(lambda: self._api.nvmlDeviceGetCudaComputeCapability(handle))
        return f"{pair[0]}.{pair[1]}" if pair is not None else None

    def _bandwidth(self, index: int, handle: Any, name: str, notes: Notes) -> float | None:
        """2 x memory clock x bus width / 8, GB/s; a table by name where NVML does not tell."""
        api = self._api
        clock = self._quiet(lambda: api.nvmlDeviceGetMaxClockInfo(handle, api.NVML_CLOCK_MEM))
        width = self._quiet(lambda: api.nvmlDeviceGetMemoryBusWidth(handle))
        if clock and width:
            notes.source(f"gpus.{index}.bandwidth_gb_s", "NVML memory clock and bus width")
            return round(2 * int(clock) * int(width) / 8 / 1000, 1)
        known = bandwidth_by_name(name)
        if known is not None:
            notes.source(f"gpus.{index}.bandwidth_gb_s", "table by name")
        return known

    def _links(self, handles: dict[int, Any]) -> dict[int, tuple[int, ...]]:
        """For each GPU the ones it reaches over NVLink (directly or through a switch)."""
        if not 2 <= len(handles) <= MOST_LINK_PAIRS:
            return {}
        found = {}
        for one, handle in handles.items():
            reached = []
            for other, peer in handles.items():
                if one == other:
                    continue
                if self._quiet(partial(self._linked, handle, peer)):
                    reached.append(other)
            found[one] = tuple(reached)
        return found

    def _linked(self, handle: Any, peer: Any) -> bool:
        api = self._api
        status = api.nvmlDeviceGetP2PStatus(handle, peer, api.NVML_P2P_CAPS_INDEX_NVLINK)
        return bool(status == api.NVML_P2P_STATUS_OK)

    def _cuda(self) -> str | None:
        version = self._quiet(self._api.nvmlSystemGetCudaDriverVersion_v2)
        return f"{version // 1000}.{version % 1000 // 10}" if version else None

    # --- the library

    def _start(self, notes: Notes) -> bool:
        if self._open:
            return True
        if self._api is None:
            if not library_present():
                notes.source("gpus", "no NVML library on this host")
                return False
            import pynvml  # noqa: PLC0415 - only where there is a driver

            self._api = pynvml
        try:
            self._api.nvmlInit()
        except self._errors() as error:
            self._explain(error, notes)
            return False
        self._open = True
        return True

    def _explain(self, error: Exception, notes: Notes) -> None:
        absent = ("LibraryNotFound", "DriverNotLoaded", "NoPermission")
        reason = type(error).__name__.removeprefix("NVMLError_")
        notes.source("gpus", f"NVML: {reason}")
        if "Mismatch" in reason:
            notes.warn("the NVIDIA driver and its library have different versions; reboot this host")
        elif reason not in absent:
            notes.warn(f"NVML does not start: {reason}")

    def _errors(self) -> tuple[type[Exception], ...]:
        mismatch = getattr(self._api, "NVMLLibraryMismatchError", self._api.NVMLError)
        return (self._api.NVMLError, mismatch, UnicodeDecodeError, OSError, AttributeError)

    def _quiet(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._errors():
            return None

    def _try(self, notes: Notes, what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._errors() as error:
            notes.warn(f"{what} could not be read ({type(error).__name__})")
            return None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") or None
    return value if isinstance(value, str) and value else None
