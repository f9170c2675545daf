"""Percentiles of raw samples, and confidence intervals over repeats. Pure."""

import math
from collections.abc import Iterable, Sequence

from compute_common.schemas.benchmark import Interval, Percentiles

# Student's t, two-sided 95 %, for 1 to 19 degrees of freedom (any table of it).
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093),
)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the closest ranks (R-7, as numpy's default); `ordered` is not empty."""
    rank = share * (len(ordered) - 1)
    low, high = math.floor(rank), math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def percentiles(seconds: Iterable[float]) -> Percentiles:
    """Milliseconds with three decimals; all None without samples."""
    ordered = sorted(value * 1000 for value in seconds)
    if not ordered:
        return Percentiles()
    return Percentiles(
        mean=round(math.fsum(ordered) / len(ordered), 3),
        p50=round(percentile(ordered, 0.50), 3),
        p90=round(percentile(ordered, 0.90), 3),
        p95=round(percentile(ordered, 0.95), 3),
        p99=round(percentile(ordered, 0.99), 3),
    )


def interval(values: Sequence[float]) -> Interval | None:
    """The 95 % confidence interval of the mean of 2 to 20 repeats; None for fewer."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = _T95[min(count - 2, len(_T95) - 1)] * math.sqrt(variance / count)
    return Interval(mean=round(mean, 3), low=round(mean - half, 3), high=round(mean + half, 3))
