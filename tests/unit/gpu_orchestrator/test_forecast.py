"""Leaks are seen in time; steps, model loads and sawtooth are not taken for leaks."""

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from compute_common.enums import MemoryLevel
from gpu_orchestrator.forecast import Floors, Outlook, Sample, Track, follow

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


def test_what_is_no_number_or_not_newer_changes_nothing() -> None:
    track = follow(Track(), Sample(1, 5000, 5000), FLOORS)
    for at, available in ((2, float("nan")), (2, float("inf")), (float("nan"), 1), (1, 1), (0, 1)):
        assert follow(track, Sample(at, available, 5000), FLOORS) is track
        assert follow(track, Sample(at, 5000, available), FLOORS) is track or at > 1


LEVELS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1e5, 1e5)


@given(st.lists(st.tuples(st.floats(0.1, 30), LEVELS, LEVELS), max_size=120))
def test_whatever_comes_the_outlook_is_sound(steps: list[tuple[float, float, float]]) -> None:
    track, at = Track(), 0.0
    for gap, available, headroom in steps:
        at += gap
        track = follow(track, Sample(at, available, headroom), FLOORS)
        outlook = track.outlook
        assert 0 <= outlook.confidence <= 1
        if outlook.oom_seconds is not None:
            assert outlook.oom_range is not None
            assert 0 <= outlook.oom_range[0] <= outlook.oom_seconds <= outlook.oom_range[1] < float("inf")


@settings(max_examples=40)
@given(st.lists(st.floats(0, 20), min_size=150, max_size=200), st.floats(4_000, 12_000))
def test_memory_that_is_given_back_is_never_an_alarm(freed: list[float], start: float) -> None:
    track, available = Track(), start
    for at, step in enumerate(freed):
        available = min(TOTAL, available + step)
        track = follow(track, Sample(at, available, available), FLOORS)
        assert track.outlook.level is MemoryLevel.OK
        assert track.outlook.oom_seconds is None
    assert track.outlook.trend_mb_per_s is not None
    assert track.outlook.trend_mb_per_s >= 0


@settings(max_examples=25)
@given(st.floats(10, 60), st.floats(1.05, 1.5))
def test_a_faster_leak_ends_sooner(rate: float, factor: float) -> None:
    def seconds(pace: float) -> float:
        track = Track()
        for at in range(150):
            track = follow(track, Sample(at, TOTAL - pace * at, TOTAL - pace * at), FLOORS)
        assert track.outlook.oom_seconds is not None
        return track.outlook.oom_seconds

    assert seconds(rate * factor) < seconds(rate)


def test_floors_grow_with_the_memory_up_to_what_is_worth_an_alarm() -> None:
    floors = [Floors.of_ram(mib) for mib in (200, 2_048, 16_384, 65_536, 2_097_152)]
    assert [floor.warn_mb for floor in floors] == [20, 204.8, 819.2, 3276.8, 8192]
    for floor in floors:
        assert floor.critical_mb < floor.warn_mb < floor.watch_mb
