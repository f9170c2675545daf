"""When will memory run out: two windows, confirmed, and a floor. Pure.

One window alarms on every model load. So the consumption rate is the smaller of the Theil-Sen slopes over
40 s and 120 s, it must hold for 20 s (three looks ten seconds apart), and lone spikes are left to floors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from compute_common.enums import MemoryLevel

SHORT_SECONDS = 40.0
LONG_SECONDS = 120.0
SHORT_SPAN, LONG_SPAN = 30.0, 60.0  # a window this long or longer may speak
POINTS = 41  # of each window at most: 820 pairs
CONFIRM_SECONDS = 20.0  # three looks ten seconds apart agree: a load that ends within 30 s has passed by then
HORIZON_SECONDS = 1800.0
NOISE_MB_PER_S = 0.2
CALM_SECONDS = 10.0
CRITICAL_SECONDS, WARN_SECONDS = 60.0, 300.0
_LEVELS = list(MemoryLevel)


@dataclass(frozen=True, slots=True)
class Sample:
    """`headroom_mb` is what is left when every reservation is used in full; it may be negative."""

    at: float
    available_mb: float
    headroom_mb: float


@dataclass(frozen=True, slots=True)
class Floors:
    """Available MiB below which a level holds whatever the trend."""

    watch_mb: float
    warn_mb: float
    critical_mb: float

    @classmethod
    def of_ram(cls, total_mb: int) -> "Floors":
        return cls(total_mb * 0.10, max(256, total_mb * 0.05), max(128, total_mb * 0.02))

    @classmethod
    def of_gpu(cls) -> "Floors":
        """Engines fill a GPU by design: only the last crumbs are a sign of trouble."""
        return cls(256, 128, 64)


@dataclass(frozen=True, slots=True)
class Outlook:
    """`oom_seconds` and its range are None while there is no confirmed trend towards the end."""

    level: MemoryLevel = MemoryLevel.OK
    trend_mb_per_s: float | None = None
    oom_seconds: float | None = None
    oom_range: tuple[float, float] | None = None
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Track:
    """The memory of one device over the last two minutes."""

    samples: tuple[Sample, ...] = ()
    near_since: float | None = None
    lower_since: float | None = None
    outlook: Outlook = Outlook()


def follow(track: Track, sample: Sample, floors: Floors) -> Track:
    """The track with one more sample; samples come about once a second, in order."""
    since = sample.at - LONG_SECONDS
    samples = (*(old for old in track.samples if old.at >= since), sample)
    slopes = _slopes(samples)
    rate = 0.0 if slopes is None else min(-slopes[0], -slopes[1])
    near = rate > NOISE_MB_PER_S and sample.headroom_mb / rate <= HORIZON_SECONDS
    near_since = (sample.at if track.near_since is None else track.near_since) if near else None
    trend = None if slopes is None else (-rate if rate > 0 else slopes[1])
    outlook = Outlook(trend_mb_per_s=trend)
    if slopes is not None and near_since is not None and sample.at - near_since >= CONFIRM_SECONDS:
        outlook = _predicted(sample, slopes, samples)
    level, lower_since = _settled(track, _level(sample, outlook.oom_seconds, floors), sample.at)
    outlook = Outlook(
        level, outlook.trend_mb_per_s, outlook.oom_seconds, outlook.oom_range, outlook.confidence
    )
    return Track(samples, near_since, lower_since, outlook)


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """The median slope over all pairs of points (Theil 1950, Sen 1968); 0 for fewer than two."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] > a[0]]
    return median(slopes) if slopes else 0.0


def _slopes(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Headroom, MiB/s, over the short and the long window; None until both are long enough."""
    now = samples[-1].at
    short = [(s.at, s.headroom_mb) for s in samples if s.at >= now - SHORT_SECONDS]
    every = [(s.at, s.headroom_mb) for s in samples]
    if now - short[0][0] < SHORT_SPAN or now - every[0][0] < LONG_SPAN:
        return None
    return theil_sen(_thinned(short)), theil_sen(_thinned(every))


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    step = -(-len(points) // POINTS)
    return points[::-1][::step][::-1]  # the newest point always stays


def _predicted(sample: Sample, slopes: tuple[float, float], samples: Sequence[Sample]) -> Outlook:
    slow, fast = sorted((-slopes[0], -slopes[1]))
    headroom = max(0.0, sample.headroom_mb)
    filled = min(1.0, (sample.at - samples[0].at) / LONG_SECONDS)
    return Outlook(
        trend_mb_per_s=-slow,
        oom_seconds=headroom / slow,
        oom_range=(headroom / fast, max(headroom, sample.available_mb) / slow),
        confidence=round(slow / fast * filled, 3),
    )


def _level(sample: Sample, oom_seconds: float | None, floors: Floors) -> MemoryLevel:
    soon = float("inf") if oom_seconds is None else oom_seconds
    if sample.available_mb < floors.critical_mb or soon <= CRITICAL_SECONDS:
        return MemoryLevel.CRITICAL
    if sample.available_mb < floors.warn_mb or soon <= WARN_SECONDS or sample.headroom_mb < 0:
        return MemoryLevel.WARN
    if sample.available_mb < floors.watch_mb or soon <= HORIZON_SECONDS:
        return MemoryLevel.WATCH
    return MemoryLevel.OK


def _settled(track: Track, level: MemoryLevel, now: float) -> tuple[MemoryLevel, float | None]:
    """Up at once, down only after ten calm seconds."""
    held = track.outlook.level
    if _LEVELS.index(level) >= _LEVELS.index(held):
        return level, None
    since = now if track.lower_since is None else track.lower_since
    return (level, None) if now - since >= CALM_SECONDS else (held, since)
