"""Critical events (Xid) that NVML tells of, waiting for none."""

import ctypes
from collections.abc import Iterator
from typing import Any

from compute_common.nvml import GpuLostError
from gpu_orchestrator.answers import Answers

_XID = 8  # nvmlEventTypeXidCriticalError
MOST_AT_ONCE = 100


class Xids:
    """Events of the cards it was told of; none where the driver has no events (WSL2, Jetson)."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._set: Any = self._quietly("nvmlEventSetCreate")
        self._cards: dict[int, int] = {}

    def follow(self, index: int, handle: Any) -> None:
        """Listen to a card from now on; more than once does no harm."""
        if self._set is not None and index not in self._cards.values():
            self._quietly("nvmlDeviceRegisterEvents", handle, _XID, self._set)
            self._cards[_address(handle)] = index

    def lose(self, index: int) -> None:
        """Listen to it anew once it is back."""
        self._cards = {address: card for address, card in self._cards.items() if card != index}

    def new(self) -> Iterator[tuple[int, int]]:
        """(index of the card, number) of each event since the last time."""
        for _ in range(MOST_AT_ONCE if self._cards else 0):
            event = self._quietly("nvmlEventSetWait", self._set, 0)
            if event is None:
                return
            index = self._cards.get(_address(event.device))
            if index is not None and event.eventType == _XID:
                yield index, int(event.eventData)

    def close(self) -> None:
        if self._set is not None:
            self._quietly("nvmlEventSetFree", self._set)
            self._set = None

    def _quietly(self, call: str, *arguments: Any) -> Any:
        try:
            return self._answers.ask(call, *arguments)
        except GpuLostError:
            return None


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
