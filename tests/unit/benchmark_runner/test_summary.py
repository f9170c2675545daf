"""Numbers of a cell out of known samples."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_runner.plan import CellPlan
from benchmark_runner.slo import Slo
from benchmark_runner.statistics import percentile, percentiles
from benchmark_runner.summary import Samples, summarise
from benchmark_runner.timing import RequestTiming

PLAN = CellPlan(concurrency=2, context_length=10, output_tokens=5, iterations=1, warmup=0, seed=0)
SLO = Slo(ttft_ms=200, tpot_ms=50)


def timing(
    due: float = 0, ttft: float = 0.1, gap: float = 0.02, late: float = 0, error: str | None = None
) -> RequestTiming:
    sent = due + late
    chunks = tuple(sent + ttft + gap * i for i in range(5))
    return RequestTiming(due, sent, chunks[-1] + 0.01, chunks, 10, 5, error)


def test_the_words_of_one_request() -> None:
    one = timing(ttft=0.1, gap=0.02)
    assert one.ttft == pytest.approx(0.1)
    assert one.e2e == pytest.approx(0.18)
    assert one.tpot == pytest.approx(0.02)
    assert one.gaps == pytest.approx([0.02] * 4)
    assert RequestTiming(0, 0, 1, (0.5,), 10, 1).tpot is None


def test_rates_run_from_the_common_start_to_the_last_end() -> None:
    cell = summarise(PLAN, Samples([timing(), timing(due=0.81)]), SLO)
    assert cell.duration_s == pytest.approx(1.0)
    assert cell.output_tokens_per_s == pytest.approx(10)
    assert cell.total_tokens_per_s == pytest.approx(30)
    assert cell.requests_per_s == pytest.approx(2)
    assert (cell.valid, cell.note) == (True, None)


def test_goodput_wants_both_limits() -> None:
    cell = summarise(PLAN, Samples([timing(), timing(ttft=0.3), timing(gap=0.06)]), SLO)
    assert cell.goodput_per_s == pytest.approx(cell.requests_per_s / 3, abs=0.001)


def test_errors_are_apart_from_the_numbers() -> None:
    cell = summarise(PLAN, Samples([timing(), timing(ttft=9, error="timeout"), timing(error="garbage")]), SLO)
    assert cell.error_kinds == {"timeout": 1, "garbage": 1}
    assert (cell.errors, cell.valid) == (2, False)
    assert cell.ttft_ms.p99 == pytest.approx(100)


@pytest.mark.parametrize(
    ("late", "ttft", "valid"), [(0.009, 0.01, True), (0.015, 0.01, False), (0.015, 0.1, True)]
)
def test_a_late_generator_invalidates_the_cell(late: float, ttft: float, valid: bool) -> None:
    cell = summarise(PLAN, Samples([timing(late=late, ttft=ttft)] * 2), SLO)
    assert cell.valid is valid
    assert ("bottleneck" in (cell.note or "")) is not valid


def test_an_empty_cell_is_invalid_and_has_no_numbers() -> None:
    cell = summarise(PLAN, Samples([]), SLO)
    assert (cell.valid, cell.requests_per_s, cell.ttft_ms.p50) == (False, 0, None)


def test_percentiles_interpolate_as_numpy_does() -> None:
    assert percentile([1, 2, 3, 4], 0.5) == 2.5
    assert percentile([10], 0.99) == 10
    assert percentiles([0.001, 0.002]).p90 == pytest.approx(1.9)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=200))
def test_percentiles_are_ordered_and_within_the_samples(samples: list[float]) -> None:
    found = percentiles(samples)
    values = [found.p50, found.p90, found.p95, found.p99]
    numbers = [v for v in values if v is not None]
    assert numbers == sorted(numbers)
    assert min(samples) * 1000 - 0.001 <= numbers[0]
    assert numbers[-1] <= max(samples) * 1000 + 0.001
