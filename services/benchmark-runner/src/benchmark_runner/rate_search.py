"""The highest rate that keeps an SLO: doubling until it breaks, then halving the distance. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from compute_common.schemas.benchmark import MaxRate

PROBES = 12
PRECISION = 0.1  # the bracket's width as a share of its lower end
CEILING = 10_000.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate tried, and the share of its requests that kept the SLO. `valid`: the generator kept up."""

    rate: float
    attainment: float
    valid: bool = True


def next_rate(first: float, probes: Sequence[Probe], attainment: float) -> float | None:
    """The rate to try next; None when the answer is known as well as it is going to be.

    A rate at which the generator itself was late counts as broken: nothing is known above it.
    """
    if not probes:
        return first
    if len(probes) >= PROBES:
        return None
    low = _kept(probes, attainment)
    broken = [probe.rate for probe in probes if not _holds(probe, attainment)]
    if not broken:
        return low * 2 if low * 2 <= CEILING else None
    high = min(broken)
    if low == 0:
        return high / 2 if high > first / 64 else None
    return (low + high) / 2 if high - low > PRECISION * low else None


def outcome(context_length: int, probes: Sequence[Probe], attainment: float) -> MaxRate:
    """What the probes say. `limited_by`: slo; generator, where it could not send faster; or ceiling."""
    low = _kept(probes, attainment)
    best = max((p.attainment for p in probes if p.rate == low), default=0.0)
    broken = [probe for probe in probes if not _holds(probe, attainment)]
    limit = min(broken, key=lambda probe: probe.rate) if broken else None
    limited_by = "ceiling" if limit is None else "slo" if limit.valid else "generator"
    return MaxRate(
        context_length=context_length,
        requests_per_s=round(low, 4),
        attainment=round(best, 4),
        limited_by=limited_by,
    )


def _kept(probes: Sequence[Probe], attainment: float) -> float:
    """The highest kept rate below the lowest broken one: a lucky probe above a broken one proves nothing."""
    broken = min((p.rate for p in probes if not _holds(p, attainment)), default=float("inf"))
    return max((p.rate for p in probes if _holds(p, attainment) and p.rate < broken), default=0.0)


def _holds(probe: Probe, attainment: float) -> bool:
    return probe.valid and probe.attainment >= attainment
