"""How memory grows in the forecast's trials: six kinds, each seed another one of its kind. Pure.

A curve gives the share of the memory that is used at a second. All are calm at first (`CALM_SECONDS`: the
watcher has been running); leaks then fill the rest in 3 to 30 minutes. A faster leak leaves no minute between
what can be told from a model load (about a minute) and its end, so no forecast can warn a minute ahead of it.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Curve = Callable[[float], float]
CALM_SECONDS = 150
QUIET_END = 900  # what does not leak is followed so long, in seconds
FULLEST = 0.88  # what does not leak stays below the floors
FASTEST_FILL, SLOWEST_FILL = 180.0, 1800.0


@dataclass(frozen=True)
class Kind:
    """A kind of growth; `curve(rng)` is one of it."""

    name: str
    leaks: bool
    curve: Callable[[random.Random], Curve]


def dice(name: str, seed: int) -> random.Random:
    """The same dice for the same trial, everywhere."""
    return random.Random(f"{name}/{seed}")  # noqa: S311 - a trial, no secret


def linear_leak(rng: random.Random) -> Curve:
    base = rng.uniform(0.2, 0.45)
    seconds = math.exp(rng.uniform(math.log(FASTEST_FILL), math.log(SLOWEST_FILL)))
    return lambda t: base + (1 - base) * max(0.0, t - CALM_SECONDS) / seconds


def leak_with_sawtooth(rng: random.Random) -> Curve:
    leak, teeth = linear_leak(rng), _teeth(rng.uniform(0.02, 0.08), rng.uniform(8, 40))
    return lambda t: leak(t) + teeth(t)


def leak_with_spikes(rng: random.Random) -> Curve:
    leak = linear_leak(rng)
    spikes = []
    at = 0.0
    while at < CALM_SECONDS + SLOWEST_FILL:
        at += rng.expovariate(1 / 30)
        spikes.append((at, at + rng.uniform(1, 4), rng.uniform(0.03, 0.12)))

    def used(t: float) -> float:
        return leak(t) + max((height for start, end, height in spikes if start <= t < end), default=0.0)

    return used


def one_off_step(rng: random.Random) -> Curve:
    base, rise = rng.uniform(0.2, 0.45), rng.uniform(0.5, 5)
    top = rng.uniform(base + 0.1, FULLEST)
    return lambda t: base + (top - base) * min(1.0, max(0.0, t - CALM_SECONDS) / rise)


def model_load(rng: random.Random) -> Curve:
    """At the disk's constant pace for up to a minute, or slower and slower."""
    base = rng.uniform(0.1, 0.45)
    top = rng.uniform(base + 0.15, FULLEST)
    seconds, slowing = rng.uniform(10, 60), rng.uniform(5, 30)
    if rng.random() < 0.5:
        return lambda t: base + (top - base) * min(1.0, max(0.0, t - CALM_SECONDS) / seconds)
    return lambda t: base + (top - base) * (1 - math.exp(-max(0.0, t - CALM_SECONDS) / slowing))


def flat_sawtooth(rng: random.Random) -> Curve:
    height = rng.uniform(0.05, 0.35)
    base, teeth = rng.uniform(0.2, FULLEST - height), _teeth(height, rng.uniform(10, 90))
    return lambda t: base + teeth(t)


def _teeth(height: float, period: float) -> Curve:
    return lambda t: height * (t % period) / period


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("linear leak", True, linear_leak),
        Kind("leak with sawtooth", True, leak_with_sawtooth),
        Kind("leak with spikes", True, leak_with_spikes),
        Kind("one-off step", False, one_off_step),
        Kind("model load", False, model_load),
        Kind("flat sawtooth", False, flat_sawtooth),
    )
}
