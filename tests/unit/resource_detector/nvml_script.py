"""A scripted `pynvml`: the real module's constants and exceptions, answers from a table.

It stands in for the driver below the real reader; a compiled library does the same one level deeper.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED


@dataclass
class Card:
    name: str
    memory_mib: int | None
    capability: tuple[int, int] = (8, 9)
    clock_mhz: int | None = None
    bus_bits: int | None = None
    lost: bool = False
    linked_to: tuple[int, ...] = ()


@dataclass
class ScriptedNvml:
    """Only what the reader calls; `broken` names calls that raise the given error."""

    cards: list[Card]
    broken: dict[str, Exception] = field(default_factory=dict)
    starts: int = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_answer"):
            raise AttributeError(name)
        if name in self.broken:
            return _raises(self.broken[name])
        if name.startswith("nvml"):
            answer = f"_answer_{name.removeprefix('nvml')}"
            known = hasattr(type(self), answer)
            return getattr(self, answer) if known else _raises(pynvml.NVMLError(NOT_SUPPORTED))
        return getattr(pynvml, name)

    def _answer_Init(self) -> None:  # noqa: N802 - NVML's own spelling
        self.starts += 1

    def _answer_Shutdown(self) -> None:  # noqa: N802
        self.starts -= 1

    def _answer_DeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def _answer_SystemGetDriverVersion(self) -> str:  # noqa: N802
        return "570.86.10"

    def _answer_SystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return 12080

    def _answer_DeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if self.cards[index].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def _answer_DeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.cards[handle].name

    def _answer_DeviceGetUUID(self, handle: int) -> bytes:  # noqa: N802
        return f"GPU-{handle:08x}".encode()

    def _answer_DeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        mib = self.cards[handle].memory_mib
        if mib is None:
            raise pynvml.NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(total=mib << 20, used=500 << 20, free=(mib - 500) << 20)

    def _answer_DeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:  # noqa: N802
        return self.cards[handle].capability

    def _answer_DeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=25 + handle, memory=5)

    def _answer_DeviceGetMaxClockInfo(self, handle: int, _clock: int) -> int:  # noqa: N802
        return _known(self.cards[handle].clock_mhz)

    def _answer_DeviceGetMemoryBusWidth(self, handle: int) -> int:  # noqa: N802
        return _known(self.cards[handle].bus_bits)

    def _answer_DeviceGetP2PStatus(self, one: int, other: int, _index: int) -> int:  # noqa: N802
        linked = other in self.cards[one].linked_to
        return int(pynvml.NVML_P2P_STATUS_OK if linked else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED)


def _known(value: int | None) -> int:
    if value is None:
        raise pynvml.NVMLError(NOT_SUPPORTED)
    return value


def _raises(error: Exception) -> Callable[..., Any]:
    def fail(*_arguments: object) -> Any:
        raise error

    return fail
