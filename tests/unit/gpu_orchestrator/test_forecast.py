"""Leaks are seen in time; steps, model loads and sawtooth are not taken for leaks."""

import random
from collections.abc import Callable

import pytest

from compute_common.enums import MemoryLevel
from gpu_orchestrator.forecast import Floors, Outlook, Sample, Track, follow, theil_sen

TOTAL = 16_000.0
FLOORS = Floors.of_ram(int(TOTAL))
Curve = Callable[[int], float]


def run(used: Curve, seconds: int, seed: int, promised: Curve = lambda _t: 0.0) -> list[tuple[int, Outlook]]:
    """One sample a second until memory is used up; ±5 MiB of noise."""
    noise = random.Random(seed)  # noqa: S311
    track, seen = Track(), []
    for t in range(seconds):
        available = TOTAL - used(t) + noise.uniform(-5, 5)
        if available <= 0:
            break
        track = follow(track, Sample(t, available, available - promised(t)), FLOORS)
        seen.append((t, track.outlook))
    return seen


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("sawtooth", [0, 200])
def test_a_leak_is_foretold_a_minute_ahead(seed: int, sawtooth: int) -> None:
    rate = 20 + 3 * seed
    seen = run(lambda t: 4000 + rate * t + sawtooth * (t % 20) / 20, 3600, seed)
    end = len(seen)
    first = next(t for t, outlook in seen if outlook.oom_seconds is not None and t >= 0)
    assert end - first >= 60
    last_estimate = seen[end - 60][1].oom_seconds
    assert last_estimate == pytest.approx(60, abs=25)


def step(t: int) -> float:
    return 3000 if t < 200 else 9000


def model_load(t: int) -> float:
    return 3000 + min(max(0, t - 200), 25) * 300


def flat_sawtooth(t: int) -> float:
    return 5000 + (t % 20) * 90


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("curve", [step, model_load, flat_sawtooth])
def test_what_stops_by_itself_is_no_leak(seed: int, curve: Curve) -> None:
    seen = run(curve, 600, seed)
    assert {outlook.level for _, outlook in seen} == {MemoryLevel.OK}
    assert all(outlook.oom_seconds is None for _, outlook in seen)


def test_a_slow_flat_sawtooth_is_watched_at_most() -> None:
    seen = run(lambda t: 5000 + (t % 60) * 30, 600, 1)
    assert {outlook.level for _, outlook in seen} <= {MemoryLevel.OK, MemoryLevel.WATCH}


def test_growth_inside_its_reservation_is_no_trend() -> None:
    def used(t: int) -> float:
        return 2000 + min(20 * t, 8000)

    seen = run(used, 600, 1, promised=lambda t: 10_000 - used(t))
    assert all(outlook.oom_seconds is None for _, outlook in seen)


def test_a_spike_is_caught_by_the_floor_and_let_go_after_calm() -> None:
    seen = run(lambda t: 15_900 if t == 100 else 4000, 200, 1)
    levels = [outlook.level for _, outlook in seen]
    assert levels[100] is MemoryLevel.CRITICAL
    assert levels[105] is MemoryLevel.CRITICAL
    assert levels[115] is MemoryLevel.OK


def test_the_range_brackets_the_answer() -> None:
    outlook = run(lambda t: 4000 + 20 * t, 200, 3)[-1][1]
    assert outlook.oom_range is not None
    assert outlook.oom_seconds is not None
    assert outlook.oom_range[0] <= outlook.oom_seconds <= outlook.oom_range[1]
    assert 0.8 < outlook.confidence <= 1


def test_theil_sen_ignores_outliers() -> None:
    points = [(float(x), 2.0 * x) for x in range(20)]
    points[5] = (5.0, 1e6)
    assert theil_sen(points) == pytest.approx(2, abs=0.01)
    assert theil_sen(points[:1]) == 0
