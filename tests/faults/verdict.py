"""Who is right about a run: the log read twice, what clients were promised, and what handlers really did."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from tests.faults.model import FINAL, Entry, Model
from work_marshaling.events import Record
from work_marshaling.kept import Limits
from work_marshaling.state import WorkState

Effects = Mapping[tuple[str, int], int]  # (work_id, attempt): how often a handler began


class History:
    """The log so far, as the service and the model fold it; `ends`: how often the service ended an item."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.model = Model()
        self.fold = WorkState(limits or Limits())
        self.ends: Counter[str] = Counter()
        self.last_seq = 0

    def read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.last_seq = entry.seq
            self.model.read(entry)
            for part in self.fold.apply(Record(*entry)).each():
                if part.item is not None and part.event in FINAL:
                    self.ends[part.item.work_id] += 1

    def complaints(
        self, accepted: Collection[str], effects: Effects, expected: Mapping[str, Collection[str]]
    ) -> list[str]:
        """What is wrong, in words; nothing when every promise was kept.

        `expected`: the ends an item may have; where it is not named, completed.
        """
        found = list(self.model.disorder)
        for work_id in accepted:
            found += self._promise(work_id, expected.get(work_id, ("completed",)))
        for work_id in self.model.items:
            found += self._item(work_id, effects)
        twice = sorted(key for key, times in effects.items() if times > 1)
        return found + [f"{work_id} attempt {attempt} was executed twice" for work_id, attempt in twice]

    def _promise(self, work_id: str, expected: Collection[str]) -> list[str]:
        item = self.model.items.get(work_id)
        if item is None:
            return [f"{work_id} was accepted and is lost"]
        return [] if item.status in expected else [f"{work_id} is {item.status}, not {'/'.join(expected)}"]

    def _item(self, work_id: str, effects: Effects) -> list[str]:
        """Both readings agree, there is one end, and what completed was really executed."""
        item, folded = self.model.items[work_id], self.fold.items.get(work_id)
        theirs = None if folded is None else (folded.status.value, folded.attempt)
        found = []
        if theirs != (item.status, item.attempt):
            found.append(f"{work_id}: the fold has {theirs}, the model {item.status, item.attempt}")
        if (len(item.ends), self.ends[work_id]) != (1, 1):
            found.append(f"{work_id} ended {len(item.ends)} times, in the fold {self.ends[work_id]} times")
        if item.status == "completed" and not effects.get((work_id, item.attempt)):
            found.append(f"{work_id} completed at attempt {item.attempt}, which nobody executed")
        return found
