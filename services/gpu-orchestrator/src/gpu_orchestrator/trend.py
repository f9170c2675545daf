"""Is memory going, and how fast: two windows, and two questions that loads and sawtooth answer with no. Pure.

One window alarms on every model load. So the rate is the smaller of the Theil-Sen slopes over 40 s and 120 s;
growth must still be going on; and the lows must be new ones, which those of a sawtooth are not.
"""

from collections.abc import Sequence
from itertools import combinations
from math import isfinite
from statistics import median, quantiles
from typing import NamedTuple

SHORT_SECONDS = 40.0
LONG_SECONDS = 120.0
SHORT_SPAN, LONG_SPAN = 30.0, 90.0  # a window this long or longer may speak
POINTS = 41  # of each window at most: 820 pairs
GOING_SECONDS = 10.0
GOING = 0.6  # of what the rate promises must have moved in the last ten seconds
NEW_LOW = 0.5  # of what the rate promises must lie between the lows of now and those of before
LOW = 5  # a low is the lowest fifth: spikes are shorter

Point = tuple[float, float]  # (seconds, MiB of headroom)


class Rates(NamedTuple):
    """MiB/s that headroom falls, the slower and the faster of the two windows."""

    slow: float
    fast: float
    going: bool


def rates(points: Sequence[Point]) -> Rates | None:
    """The rates at the last point; `going` only for growth that goes on. None until both windows are filled.

    Points come in order of time, all finite.
    """
    if not points:
        return None
    now = points[-1][0]
    short = [point for point in points if point[0] >= now - SHORT_SECONDS]
    every = [point for point in points if point[0] >= now - LONG_SECONDS]
    if now - short[0][0] < SHORT_SPAN or now - every[0][0] < LONG_SPAN:
        return None
    slow, fast = sorted((-theil_sen(_thinned(short)), -theil_sen(_thinned(every))))
    going = slow > 0 and _still_going(short, slow) and _new_lows(every, short, slow)
    return Rates(slow, fast, going)


def theil_sen(points: Sequence[Point]) -> float:
    """The median slope over all pairs of finite points (Theil 1950, Sen 1968); 0 for fewer than two."""
    finite = [point for point in points if isfinite(point[0]) and isfinite(point[1])]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(finite, 2) if b[0] > a[0]]
    return median(slopes) if slopes else 0.0


def _still_going(points: Sequence[Point], rate: float) -> bool:
    """A load that has ended lies still; a leak cannot, whatever rides on it."""
    last = [level for at, level in points if at >= points[-1][0] - GOING_SECONDS]
    return max(last) - min(last) >= GOING * rate * GOING_SECONDS


def _new_lows(every: Sequence[Point], short: Sequence[Point], rate: float) -> bool:
    old = every[: len(every) - len(short)]
    if len(old) < LOW or len(short) < LOW:
        return False
    apart = (short[0][0] + short[-1][0] - old[0][0] - old[-1][0]) / 2
    return _low(old) - _low(short) >= NEW_LOW * rate * apart


def _low(points: Sequence[Point]) -> float:
    return quantiles((level for _, level in points), n=LOW)[0]


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    step = -(-len(points) // POINTS)
    return points[::-1][::step][::-1]  # the newest point always stays
