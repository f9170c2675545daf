"""Asking NVML (`nvidia-ml-py`) so that one refused, absurd or undecodable answer costs nothing else."""

import ctypes
from typing import Any

from compute_common.nvml import GPU_IS_LOST, GpuLostError

_RESET_REQUIRED = 16


class Answers:
    """`api` is the module pynvml, initialised. For one thread."""

    def __init__(self, api: Any) -> None:
        self.api = api
        # NVMLLibraryMismatchError is not an NVMLError; strings may fail to decode, sizes to be allocated
        self.errors: tuple[type[Exception], ...] = (
            api.NVMLError,
            getattr(api, "NVMLLibraryMismatchError", api.NVMLError),
            ValueError,
            OSError,
            AttributeError,
            OverflowError,
            MemoryError,
            ctypes.ArgumentError,
        )

    def ask(self, call: str, *arguments: Any) -> Any:
        """The answer, None where there is none; GpuLostError when the GPU is gone."""
        try:
            return getattr(self.api, call)(*arguments)
        except self.errors as error:
            if getattr(error, "value", None) in (GPU_IS_LOST, _RESET_REQUIRED):
                raise GpuLostError from error
            return None

    def number(self, call: str, *arguments: Any, most: float) -> float | None:
        """A number from 0 to `most`; None where there is none, or none that can be true."""
        answer = self.ask(call, *arguments)
        return float(answer) if isinstance(answer, int) and 0 <= answer <= most else None

    def text(self, call: str, *arguments: Any) -> str | None:
        """Printable text; None where there is none."""
        answer = self.ask(call, *arguments)
        if isinstance(answer, bytes):
            answer = answer.decode("utf-8", "replace")
        if not isinstance(answer, str):
            return None
        return "".join(letter for letter in answer if letter.isprintable())[:200] or None
