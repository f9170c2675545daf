"""When will memory run out: a trend that is confirmed, and floors for what comes without one. Pure."""

from dataclasses import dataclass, replace
from math import inf, isfinite
from statistics import median

from compute_common.enums import MemoryLevel
from gpu_orchestrator.trend import LONG_SECONDS, Rates, rates

LOOK_SECONDS = 5.0
CONFIRM_SECONDS = 40.0  # three looks twenty seconds apart agree: a load of a minute has ended by then
RELEASE_SECONDS = 30.0  # a confirmed trend outlives a spike that hides it
HORIZON_SECONDS = 1800.0
NOISE_MB_PER_S = 0.2
CALM_SECONDS = 10.0
SMOOTH_SAMPLES = 5  # a lone spike is not the headroom that is left
CRITICAL_SECONDS, WARN_SECONDS = 60.0, 300.0
LEVELS = tuple(MemoryLevel)  # mildest first


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
        """A twentieth and a fiftieth, but not less than a spike takes nor more than is worth an alarm."""
        warn = min(max(total_mb / 20, 256), total_mb / 10, 8192)
        return cls(2 * warn, warn, min(max(total_mb / 50, 128), total_mb / 20, 3072))

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
    rates: Rates | None = None
    looked_at: float = -inf
    going_since: float | None = None
    confirmed: Rates | None = None
    confirmed_at: float = -inf
    lower_since: float | None = None
    outlook: Outlook = Outlook()


def follow(track: Track, sample: Sample, floors: Floors) -> Track:
    """The track with one more sample; one that is no number, or not newer than the last, changes nothing."""
    newest = track.samples[-1].at if track.samples else -inf
    if not all(map(isfinite, (sample.at, sample.available_mb, sample.headroom_mb))) or sample.at <= newest:
        return track
    since = sample.at - LONG_SECONDS
    samples = (*(old for old in track.samples if old.at >= since), sample)
    track = replace(track, samples=samples)
    if sample.at - track.looked_at >= LOOK_SECONDS:
        track = _looked(track, sample)
    outlook = _outlook(track)
    level, lower_since = _settled(track, _level(sample, outlook.oom_seconds, floors), sample.at)
    return replace(track, lower_since=lower_since, outlook=replace(outlook, level=level))


def _looked(track: Track, sample: Sample) -> Track:
    found = rates([(each.at, each.headroom_mb) for each in track.samples])
    near = (
        found is not None
        and found.going
        and found.slow > NOISE_MB_PER_S
        and sample.headroom_mb <= HORIZON_SECONDS * found.slow
    )
    since = (sample.at if track.going_since is None else track.going_since) if near else None
    track = replace(track, rates=found, looked_at=sample.at, going_since=since)
    held = track.confirmed is not None
    if near and since is not None and (held or sample.at - since >= CONFIRM_SECONDS):
        return replace(track, confirmed=found, confirmed_at=sample.at)
    if held and sample.at - track.confirmed_at >= RELEASE_SECONDS:
        return replace(track, confirmed=None)
    return track


def _outlook(track: Track) -> Outlook:
    """What the rates of the last looks mean now; the level is not decided here."""
    found, now = track.confirmed, track.samples[-1].at
    if found is None:
        return Outlook() if track.rates is None else Outlook(trend_mb_per_s=_unconfirmed(track.rates))
    recent = track.samples[-SMOOTH_SAMPLES:]
    headroom = max(0.0, median(each.headroom_mb for each in recent))
    available = max(headroom, median(each.available_mb for each in recent))
    filled = min(1.0, (now - track.samples[0].at) / LONG_SECONDS)
    return Outlook(
        trend_mb_per_s=-found.slow,
        oom_seconds=headroom / found.slow,
        oom_range=(headroom / found.fast, available / found.slow),
        confidence=round(found.slow / found.fast * filled, 3),
    )


def _unconfirmed(found: Rates) -> float:
    """Towards zero where the windows disagree: the weaker of two that agree on a direction, else none."""
    if found.slow > 0:
        return -found.slow
    return -found.fast if found.fast < 0 else 0.0


def _level(sample: Sample, oom_seconds: float | None, floors: Floors) -> MemoryLevel:
    soon = inf if oom_seconds is None else oom_seconds
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
    if LEVELS.index(level) >= LEVELS.index(held):
        return level, None
    since = now if track.lower_since is None else track.lower_since
    return (level, None) if now - since >= CALM_SECONDS else (held, since)
