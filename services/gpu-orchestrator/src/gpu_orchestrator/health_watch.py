"""Follows the health of every GPU from look to look: pure, over what the drivers say."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpu_orchestrator.devices import GpuReading
from gpu_orchestrator.vitals import OK

GONE = "gone"  # from the driver's list, as a slice that was destroyed or a card renumbered away
MOST_GONE = 256  # slices may be cut anew, with other UUIDs, as often as somebody likes


@dataclass(frozen=True, slots=True)
class HealthChange:
    """`before` and `health` are `ok`, or why the GPU takes nothing new."""

    uuid: str
    index: int
    health: str
    before: str

    @property
    def is_one(self) -> bool:
        return self.health != self.before


class HealthWatch:
    """A GPU seen for the first time counts as having been `ok`; one that is gone may come back."""

    def __init__(self) -> None:
        self._seen: dict[str, GpuReading] = {}
        self._due: dict[str, HealthChange] = {}

    def observe(self, gpus: Iterable[GpuReading]) -> list[HealthChange]:
        """What changed since the last look."""
        now = {gpu.uuid: gpu for gpu in gpus}
        places = {gpu.index: gpu for gpu in now.values()}
        unnamed = {gpu.index: gpu for gpu in self._seen.values() if not _named(gpu)}
        changes = []
        for uuid, gpu in now.items():
            before = self._seen.get(uuid) or unnamed.get(gpu.index)
            changes.append(HealthChange(uuid, gpu.index, gpu.health, before.health if before else OK))
        missing = [gpu for gpu in self._seen.values() if gpu.uuid not in now]
        left = [gpu for gpu in missing if _named(gpu) or gpu.index not in places]
        changes += [HealthChange(gpu.uuid, gpu.index, GONE, gpu.health) for gpu in left]
        kept = {gpu.uuid: replace(gpu, health=GONE) for gpu in left[-MOST_GONE:]}
        self._seen = {**kept, **now}
        return [change for change in changes if change.is_one]

    def due(self, changes: Iterable[HealthChange]) -> list[HealthChange]:
        """These and the earlier ones not yet told, one a GPU; a change that went back is none."""
        for change in changes:
            untold = self._due.get(change.uuid)
            self._due[change.uuid] = replace(change, before=untold.before) if untold else change
        self._due = {
            uuid: change for uuid, change in self._due.items() if change.is_one and uuid in self._seen
        }
        return list(self._due.values())

    def told(self, change: HealthChange) -> None:
        self._due.pop(change.uuid, None)


def _named(gpu: GpuReading) -> bool:
    """Whether its driver ever told who it is; a card lost before that has only its place."""
    return bool(gpu.total_mb or gpu.unified)
