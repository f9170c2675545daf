"""The estimator: robust, equivariant, and blind to what is no leak."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_orchestrator.forecast import CONFIRM_SECONDS
from gpu_orchestrator.trend import LONG_SPAN, Point, rates, theil_sen

SERIES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


def points(levels: list[float]) -> list[Point]:
    return [(float(at), level) for at, level in enumerate(levels)]


def falling(rate: float, seconds: int = 121, seed: int = 1) -> list[Point]:
    noise = random.Random(seed)  # noqa: S311
    return [(float(at), 10_000 - rate * at + noise.uniform(-5, 5)) for at in range(seconds)]


def test_theil_sen_ignores_outliers_and_what_is_no_number() -> None:
    line = points([2.0 * at for at in range(20)])
    line[5], line[6], line[7] = (5.0, 1e6), (6.0, float("nan")), (float("inf"), 3.0)
    assert theil_sen(line) == pytest.approx(2, abs=0.01)
    assert theil_sen(line[:1]) == 0
    assert theil_sen([]) == 0
    assert theil_sen([(1.0, 5.0), (1.0, 9.0)]) == 0, "two values of one moment have no slope"


@given(SERIES, st.floats(0.001, 1000), st.floats(-1e6, 1e6))
def test_theil_sen_is_equivariant(levels: list[float], scale: float, shift: float) -> None:
    moved = theil_sen(points([level * scale + shift for level in levels]))
    assert moved == pytest.approx(theil_sen(points(levels)) * scale, abs=1e-6 * max(1, scale), rel=1e-6)


@given(SERIES)
def test_theil_sen_follows_the_direction(levels: list[float]) -> None:
    assert theil_sen(points(sorted(levels))) >= 0
    assert theil_sen(points(sorted(levels, reverse=True))) <= 0
    assert theil_sen(points([levels[0]] * len(levels))) == 0


@given(st.floats(0.01, 100))
def test_rates_scale_with_the_memory(scale: float) -> None:
    line = falling(20)
    small, large = rates(line), rates([(at, level * scale) for at, level in line])
    assert small is not None
    assert large is not None
    assert small.going
    assert large.going
    assert (large.slow, large.fast) == pytest.approx((small.slow * scale, small.fast * scale))


def test_nothing_is_said_before_the_windows_are_filled() -> None:
    assert rates([]) is None
    assert rates(falling(20, int(LONG_SPAN))) is None
    assert rates(falling(20, int(LONG_SPAN) + 1)) is not None
    assert rates([(0.0, 5.0), (1000.0, 4.0)]) is None


def test_growth_that_stopped_is_not_going_on() -> None:
    loaded = [(float(at), 10_000 - 100.0 * min(max(at - 60, 0), 50)) for at in range(121)]
    found = rates(loaded)
    assert found is not None
    assert found.slow > 0, "both windows still see the load"
    assert not found.going


def test_the_lows_of_a_sawtooth_are_no_new_ones_for_long() -> None:
    teeth = [(float(at), 10_000 - 40.0 * (at % 55)) for at in range(400)]
    going = []
    for end in range(int(LONG_SPAN) + 1, len(teeth)):
        found = rates(teeth[max(0, end - 121) : end])
        assert found is not None
        going.append(found.going)
    longest = max(map(len, "".join(".x"[each] for each in going).split(".")))
    assert longest < CONFIRM_SECONDS / 2
