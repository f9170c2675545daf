"""Confidence intervals over repeats, open loops, and who keeps an SLO."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_runner.generator.driving import arrivals
from benchmark_runner.plan import CellPlan
from benchmark_runner.slo import Slo, wanted
from benchmark_runner.statistics import interval
from benchmark_runner.summary import Samples, summarise
from benchmark_runner.timing import RequestTiming
from compute_common.schemas.benchmark import SloRequest

PLAN = CellPlan(
    concurrency=1, context_length=10, output_tokens=5, iterations=1, warmup=0, seed=0, repeats=3, rate=None
)


def timing(
    repeat: int, ttft: float, due: float = 0.0, late: float = 0.0, scheduled: bool = False
) -> RequestTiming:
    sent = due + late
    chunks = tuple(sent + ttft + 0.02 * i for i in range(5))
    return RequestTiming(due, sent, chunks[-1], chunks, 10, 5, None, scheduled, repeat)


def test_the_interval_is_students() -> None:
    """Mean 2, standard deviation 1, three values: half width 4.303 / √3 (a textbook's table)."""
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    assert found.mean == 2
    assert found.low == pytest.approx(2 - 2.484, abs=0.001)
    assert found.high == pytest.approx(2 + 2.484, abs=0.001)
    assert interval([5.0]) is None


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=20))
def test_the_interval_holds_the_mean(values: list[float]) -> None:
    found = interval(values)
    assert found is not None
    assert found.low - 0.001 <= statistics.fmean(values) <= found.high + 0.001


def test_pauses_between_repeats_do_not_count_and_intervals_are_over_repeats() -> None:
    cell = summarise(PLAN, Samples([timing(0, 0.1), timing(1, 0.1, due=100), timing(2, 0.1, due=200)]), Slo())
    assert cell.duration_s == pytest.approx(3 * 0.18)
    assert cell.output_tokens_per_s == pytest.approx(15 / 0.54, abs=0.001)
    assert cell.intervals["ttft_ms"].mean == pytest.approx(100)
    assert cell.intervals["ttft_ms"].high - cell.intervals["ttft_ms"].low == pytest.approx(0, abs=0.01)


def test_in_an_open_loop_waiting_to_be_sent_counts() -> None:
    one = timing(0, 0.1, late=0.5, scheduled=True)
    assert one.ttft == pytest.approx(0.6)
    assert timing(0, 0.1, late=0.5).ttft == pytest.approx(0.1)


def test_a_generator_that_stood_still_invalidates_the_cell() -> None:
    cell = summarise(PLAN, Samples([timing(0, 0.01)], stalls=[0.0, 0.05]), Slo())
    assert not cell.valid
    assert "stood still" in (cell.note or "")


def test_prompts_of_another_length_than_asked_for_invalidate_the_cell() -> None:
    plan = CellPlan(concurrency=1, context_length=100, output_tokens=5, iterations=1, warmup=0, seed=0)
    cell = summarise(plan, Samples([timing(0, 0.01)]), Slo())
    assert (cell.valid, cell.prompt_tokens) == (False, [10, 10])
    assert "not 100" in (cell.note or "")


def test_a_partial_cell_says_so() -> None:
    cell = summarise(PLAN, Samples([timing(0, 0.01)], partial=True), Slo())
    assert (cell.partial, cell.valid) == (True, False)


def test_arrivals_are_poisson_and_reproducible() -> None:
    """Gaps have mean and standard deviation 1/rate: the sign of exponential ones."""
    moments = arrivals(3, 50.0, 20_000)
    assert moments == arrivals(3, 50.0, 20_000)
    gaps = [b - a for a, b in zip([0.0, *moments], moments, strict=False)]
    assert statistics.fmean(gaps) == pytest.approx(0.02, rel=0.03)
    assert statistics.stdev(gaps) == pytest.approx(0.02, rel=0.03)


def test_own_limits_replace_the_services() -> None:
    default = Slo(2000, 100)
    assert wanted(default, None) is default
    assert wanted(default, SloRequest(attainment=0.99)) == Slo(2000, 100, None, 0.99)
    assert wanted(default, SloRequest(e2e_ms=5)) == Slo(None, None, 5, 0.9)
    assert Slo(e2e_ms=170).kept(timing(0, 0.1)) is False
    assert Slo(e2e_ms=181).kept(timing(0, 0.1)) is True
