"""The forecast over a growing memory, second by second on a virtual clock, and how it did."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from statistics import median

from compute_common.enums import MemoryLevel
from gpu_orchestrator.forecast import Floors, Sample, Track, follow
from tests.support.growth import CALM_SECONDS, KINDS, QUIET_END, Kind, dice

TOTAL_MB = 16_384
SEEDS = range(20)
NOISE = 0.002  # of the memory: what everybody else on the host does
ALARMS = frozenset({MemoryLevel.WARN, MemoryLevel.CRITICAL})


@dataclass(frozen=True)
class Trial:
    """Seconds since the growth began. `warned`: the alarm that stayed to the end; `killed`: None = never."""

    kind: str
    seed: int
    first_alarm: float | None
    warned: float | None
    killed: float | None

    @property
    def lead(self) -> float | None:
        """Seconds between the lasting alarm and the kill; 0 without one."""
        if self.killed is None:
            return None
        return 0.0 if self.warned is None else self.killed - self.warned


class Judge:
    """Takes one level after the other and keeps when alarms began."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.lasting: float | None = None

    def see(self, at: float, level: MemoryLevel) -> None:
        if level not in ALARMS:
            self.lasting = None
        elif self.lasting is None:
            self.lasting = at
            self.first = at if self.first is None else self.first

    def trial(self, kind: str, seed: int, killed: float | None) -> Trial:
        return Trial(kind, seed, self.first, self.lasting, killed)


def simulate(kind: Kind, seed: int) -> Trial:
    """One trial, until memory is used up or `QUIET_END`."""
    rng = dice(kind.name, seed)
    curve, noise = kind.curve(rng), _noise(rng)
    floors, track, judge = Floors.of_ram(TOTAL_MB), Track(), Judge()
    for t in count():
        available = TOTAL_MB * (1 - curve(t) - next(noise))
        if available <= 0 or (not kind.leaks and t >= QUIET_END):
            killed = float(t - CALM_SECONDS) if available <= 0 else None
            return judge.trial(kind.name, seed, killed)
        track = follow(track, Sample(t, available, available), floors)
        judge.see(t - CALM_SECONDS, track.outlook.level)
    raise AssertionError("unreachable")


def _noise(rng: random.Random) -> Iterator[float]:
    value = 0.0
    while True:
        value = 0.9 * value + rng.gauss(0, NOISE * 0.436)  # of standard deviation NOISE, 10 s long
        yield value


def simulate_all() -> list[Trial]:
    return [simulate(kind, seed) for kind in KINDS.values() for seed in SEEDS]


def table(trials: Iterable[Trial]) -> str:
    """The trials as a Markdown table, one line a kind."""
    every = list(trials)
    return "\n".join(
        (
            "| growth | seeds | lead min / median | ≥ 60 s ahead | false alarms | first warn, median |",
            "|---|---|---|---|---|---|",
            *(
                _line(name, [trial for trial in every if trial.kind == name])
                for name in dict.fromkeys(trial.kind for trial in every)
            ),
        )
    )


def _line(name: str, trials: list[Trial]) -> str:
    leads = [trial.lead for trial in trials if trial.lead is not None]
    alarms = [trial.first_alarm for trial in trials if trial.first_alarm is not None]
    false = sum(alarm < 0 for alarm in alarms) if KINDS[name].leaks else len(alarms)
    lead = f"{min(leads):.0f} / {median(leads):.0f} s" if leads else "–"
    ahead = f"{sum(lead >= 60 for lead in leads)} of {len(leads)}" if leads else "–"
    first = f"{median(alarms):.0f} s" if leads and alarms else "–"
    return f"| {name} | {len(trials)} | {lead} | {ahead} | {false} | {first} |"
