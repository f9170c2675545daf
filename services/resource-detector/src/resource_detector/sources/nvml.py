"""NVML (`nvidia-ml-py`): opening it, and asking it so that one refused answer costs nothing else.

`NVMLLibraryMismatchError` is not an `NVMLError`: unversioned calls raise it on old drivers.
"""

from typing import Any

from compute_common.nvml import GPU_IS_LOST, GpuLostError, library_present
from resource_detector.findings import Notes

_ABSENT = ("LibraryNotFound", "DriverNotLoaded")
_MEANING = {
    "LibRmVersionMismatch": "the NVIDIA driver and its library have different versions; reboot this host",
    "NoPermission": "NVML may not be read here; give this program access to /dev/nvidiactl",
}


class Nvml:
    """The library, held open between readings; all calls belong to one thread. `api` is the module pynvml."""

    def __init__(self, api: Any = None) -> None:
        self.api = api
        self._open = False

    def start(self, notes: Notes) -> bool:
        """Whether NVML answers; if not, why stands in the notes. Tried again at each detection."""
        if self._open:
            return True
        if self.api is None:
            if not library_present():
                notes.source("gpus", "no NVML library on this host")
                return False
            import pynvml  # noqa: PLC0415 - only where there is a driver

            self.api = pynvml
        try:
            self.api.nvmlInit()
        except self.errors() as error:
            _explain(error, notes)
            return False
        self._open = True
        return True

    def close(self) -> None:
        if self._open:
            self._open = False
            try:
                self.api.nvmlShutdown()
            except self.errors():
                return

    def errors(self) -> tuple[type[Exception], ...]:
        """What a call may raise where the driver, the library or pynvml does not know it."""
        mismatch = getattr(self.api, "NVMLLibraryMismatchError", self.api.NVMLError)
        return (self.api.NVMLError, mismatch, UnicodeDecodeError, OSError, AttributeError)

    def ask(self, call: str, *arguments: Any) -> Any:
        """The answer, or the reason for none as a `Refused`."""
        try:
            return getattr(self.api, call)(*arguments)
        except self.errors() as error:
            return Refused(reason_of(error), lost=getattr(error, "value", None) == GPU_IS_LOST)


class Refused:
    """No answer, and why; false, so that `answer or None` reads well."""

    def __init__(self, reason: str, lost: bool = False) -> None:
        self.reason = reason
        self.lost = lost

    def __bool__(self) -> bool:
        return False


class Card:
    """One GPU that is being asked: notes the source of each answer, collects what it does not tell.

    Every question raises GpuLostError once the GPU is gone.
    """

    def __init__(self, nvml: Nvml, index: int, handle: Any, notes: Notes) -> None:
        self.index = index
        self.handle = handle
        self.notes = notes
        self._nvml = nvml
        self._refused: dict[str, str] = {}

    def tell(self, field: str, call: str, *arguments: Any) -> Any:
        """The answer, with its source noted under `field`; None, remembered, where there is none."""
        answer = self._ask(call, self.handle, *arguments)
        if isinstance(answer, Refused):
            self._refused[field] = answer.reason
            return None
        self.source(field, call)
        return answer

    def quietly(self, call: str, *arguments: Any, handle: Any = None) -> Any:
        """The answer or None: for what most cards have not got."""
        answer = self._ask(call, handle or self.handle, *arguments)
        return None if isinstance(answer, Refused) else answer

    def _ask(self, call: str, *arguments: Any) -> Any:
        answer = self._nvml.ask(call, *arguments)
        if isinstance(answer, Refused) and answer.lost:
            raise GpuLostError
        return answer

    def source(self, field: str, where: str) -> None:
        self._refused.pop(field, None)
        self.notes.source(f"gpus.{self.index}.{field}", where)

    def excuse(self, *fields: str) -> None:
        """These are not missed on such a card."""
        for field in fields:
            self._refused.pop(field, None)

    def close(self) -> None:
        """One warning for all that was not told."""
        if self._refused:
            told = ", ".join(f"{field} ({reason})" for field, reason in sorted(self._refused.items()))
            self.notes.warn(f"GPU {self.index} does not tell {told}")


def reason_of(error: Exception) -> str:
    return type(error).__name__.removeprefix("NVMLError_").removesuffix("Error")


def text_of(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") or None
    return value if isinstance(value, str) and value else None


def _explain(error: Exception, notes: Notes) -> None:
    reason = reason_of(error)
    notes.source("gpus", f"NVML: {reason}")
    if reason in _MEANING:
        notes.warn(_MEANING[reason])
    elif reason not in _ABSENT:
        notes.warn(f"NVML does not start: {reason}")
