"""MIG: the slices of a card, each a device of its own. The card itself takes nothing."""

from dataclasses import dataclass
from typing import Any

from gpu_orchestrator.answers import Answers
from gpu_orchestrator.devices import GpuReading, slice_index
from gpu_orchestrator.memory_of_gpu import MOST_MB, Memory, read_memory, read_processes
from gpu_orchestrator.vitals import OK, UNREADABLE

MOST_SLICES = 16


@dataclass(frozen=True, slots=True)
class _Slice:
    number: int
    handle: Any
    uuid: str
    name: str
    total_mb: int


def mig_enabled(answers: Answers, handle: Any) -> bool:
    """Whether the card is in MIG mode now (not: after its next reset)."""
    mode = answers.ask("nvmlDeviceGetMigMode", handle)
    return bool(mode) and mode[0] == 1


class MigSlices:
    """The slices of one card: looked for about once a second, for they are made and destroyed."""

    def __init__(self, answers: Answers, card: int) -> None:
        self._answers = answers
        self._card = card
        self._slices: tuple[_Slice, ...] = ()

    def find(self, card: Any, card_uuid: str) -> None:
        most = self._answers.number("nvmlDeviceGetMaxMigDeviceCount", card, most=1 << 31) or 0
        found = []
        for number in range(min(int(most), MOST_SLICES)):
            handle = self._answers.ask("nvmlDeviceGetMigDeviceHandleByIndex", card, number)
            if handle is not None:
                found.append(self._slice(number, handle, card_uuid))
        self._slices = tuple(found)

    def read(self, card: GpuReading) -> tuple[GpuReading, ...]:
        """Each slice now; a failing card's slices fail with it."""
        return tuple(self._read(part, card) for part in self._slices)

    def _slice(self, number: int, handle: Any, card_uuid: str) -> _Slice:
        uuid = self._answers.text("nvmlDeviceGetUUID", handle) or f"{card_uuid}/{number}"
        name = self._answers.text("nvmlDeviceGetName", handle) or "MIG slice"
        attributes = self._answers.ask("nvmlDeviceGetAttributes", handle)
        total = 0 if attributes is None else int(attributes.memorySizeMB)
        return _Slice(number, handle, uuid, name, total if total <= MOST_MB else 0)

    def _read(self, part: _Slice, card: GpuReading) -> GpuReading:
        told = read_memory(self._answers, part.handle)
        memory = told or Memory(part.total_mb, part.total_mb)
        listed = read_processes(self._answers, part.handle, memory.total_mb)
        return GpuReading(
            index=slice_index(self._card, part.number),
            uuid=part.uuid,
            name=part.name,
            total_mb=memory.total_mb,
            used_mb=memory.used_mb,
            processes=listed or (),
            processes_readable=listed is not None,
            health=card.health if card.health != OK or told else UNREADABLE,
            parent=card.index,
        )
