"""What a record did to the queue."""

from dataclasses import dataclass
from typing import NamedTuple

from work_marshaling.items import Item


class Outcome(NamedTuple):
    """`event` and its item, or `ignored` and why; of a decision about many its parts."""

    event: str
    item: Item | None = None
    reason: str | None = None
    parts: tuple["Outcome", ...] = ()

    def each(self) -> tuple["Outcome", ...]:
        return self.parts or (self,)


@dataclass(slots=True)
class Totals:
    """Since the beginning of the queue; snapshots keep them."""

    submitted: int = 0
    retried: int = 0
    timed_out: int = 0
    assignments: int = 0
    completions: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0


def ignored(reason: str, item: Item | None = None) -> Outcome:
    return Outcome("ignored", item, reason)
