"""How long a node may be silent: four of its own beats and a second.

Times are seconds of the registry's own monotonic clock; a client's clock is never asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

BEATS = 4
SLACK_SECONDS = 1.0
DEFAULT_BEAT_SECONDS = 5.0
LEARNING_BEAT_SECONDS = 30.0  # the slowest documented client; assumed until a node's own gaps are known
SHORTEST_GAP_SECONDS = 0.5  # anything closer is one beat heard twice, not a rhythm
LONGEST_GAP_SECONDS = 600.0  # anything longer is an absence
GAPS_KEPT = 5


@dataclass(frozen=True)
class Life:
    """The signs of life of one node. `heard_by_bus`: the last one came over NATS."""

    last_seen: float
    last_beat: float | None = None
    first_gap: float = 0.0
    gaps: tuple[float, ...] = ()
    heard_by_bus: bool = True


def seen(life: Life, now: float, by_bus: bool) -> Life:
    """After any message of the node that is not a heartbeat."""
    return replace(life, last_seen=max(life.last_seen, now), heard_by_bus=by_bus)


def beaten(life: Life, now: float, by_bus: bool) -> Life:
    """After a heartbeat; the gap to the one before is learned from."""
    if life.last_beat is None:
        return replace(
            life, last_seen=now, last_beat=now, first_gap=now - life.last_seen, heard_by_bus=by_bus
        )
    gap = now - life.last_beat
    if gap < SHORTEST_GAP_SECONDS:
        return replace(life, last_seen=now, heard_by_bus=by_bus)
    gaps = (*life.gaps, gap)[-GAPS_KEPT:] if gap <= LONGEST_GAP_SECONDS else life.gaps
    return replace(life, last_seen=now, last_beat=now, gaps=gaps, heard_by_bus=by_bus)


def beat_seconds(declared: float | None, gaps: Sequence[float]) -> float:
    """The node's beat: declared, else the median of its gaps (never under the default), else the default."""
    if declared is not None:
        return declared
    return max(DEFAULT_BEAT_SECONDS, median(gaps)) if gaps else DEFAULT_BEAT_SECONDS


def allowed_silence(declared: float | None, life: Life, register_ttl_seconds: float) -> float:
    """Seconds from the last sign of life to the deadline.

    A node that declares no beat and never beat has `register_ttl_seconds`. After its first beat, until a
    second one shows its rhythm, it is taken for the slowest documented client (30 s): none flaps meanwhile.
    """
    if declared is not None:
        return _deadline(declared)
    if life.last_beat is None:
        return register_ttl_seconds
    if not life.gaps:
        return _deadline(max(LEARNING_BEAT_SECONDS, min(life.first_gap, LONGEST_GAP_SECONDS)))
    return _deadline(beat_seconds(None, life.gaps))


def _deadline(beat: float) -> float:
    return BEATS * beat + SLACK_SECONDS
