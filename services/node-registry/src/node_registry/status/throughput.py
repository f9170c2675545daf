"""How fast work comes and goes, from counters read now and then. Pure."""

from collections import deque
from dataclasses import dataclass

from compute_common.schemas.base import JsonObject
from node_registry.status.models import WorkRate

WINDOW_SECONDS = 60.0
SHORTEST_SECONDS = 2.0  # from less no rate is told: one item would be thirty a minute
_COUNTERS = ("total_requests", "completed", "failed")


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    counts: tuple[int, ...]


class Throughput:
    """Readings of the last minute; counters that fall (another log, an older replica) begin anew."""

    def __init__(self) -> None:
        self._readings: deque[_Reading] = deque()

    def read(self, statistics: JsonObject, at: float) -> None:
        """Take a look's counters in; a look without them is none."""
        counts = tuple(value for name in _COUNTERS if isinstance(value := statistics.get(name), int))
        if len(counts) < len(_COUNTERS):
            return
        held = self._readings
        if held and any(new < old for new, old in zip(counts, held[-1].counts, strict=True)):
            held.clear()
        held.append(_Reading(at, counts))
        while len(held) > 2 and at - held[1].at >= WINDOW_SECONDS:
            held.popleft()

    def rate(self, now: float) -> WorkRate | None:
        """None without two readings apart, and when the last one is old."""
        held = self._readings
        if len(held) < 2 or now - held[-1].at > WINDOW_SECONDS / 4:
            return None
        seconds = held[-1].at - held[0].at
        if seconds < SHORTEST_SECONDS:
            return None
        submitted, completed, failed = (
            round((new - old) * 60 / seconds, 1)
            for new, old in zip(held[-1].counts, held[0].counts, strict=True)
        )
        return WorkRate(
            submitted_per_min=submitted,
            completed_per_min=completed,
            failed_per_min=failed,
            over_seconds=round(seconds, 1),
        )
