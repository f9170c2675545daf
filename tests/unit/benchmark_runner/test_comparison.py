"""Which changes are regressions: direction and threshold of each metric."""

import pytest

from benchmark_runner.comparison import compare
from compute_common.schemas.benchmark import Cell, Interval, Percentiles, ResourceUse, Thresholds


def cell(speed: float = 100, ttft: float = 50, ram: int = 1000, **changes: object) -> Cell:
    made = Cell(
        batch_size=1,
        context_length=8,
        output_tokens=4,
        valid=True,
        errors=0,
        output_tokens_per_s=speed,
        ttft_ms=Percentiles(p50=ttft, p99=ttft),
        resources=ResourceUse(ram_used_mb=ram),
    )
    return made.model_copy(update=changes)


def verdicts(old: Cell, new: Cell) -> dict[str, str]:
    found = compare(("a", [old]), ("b", [new]), Thresholds())
    return {change.metric: change.verdict for change in found.changes}


@pytest.mark.parametrize(
    ("new", "metric", "verdict"),
    [
        (cell(speed=94.9), "output_tokens_per_s", "regression"),
        (cell(speed=95), "output_tokens_per_s", "worse"),
        (cell(speed=200), "output_tokens_per_s", "better"),
        (cell(), "output_tokens_per_s", "same"),
        (cell(ttft=55.1), "ttft_ms_p50", "regression"),
        (cell(ttft=55), "ttft_ms_p50", "worse"),
        (cell(ttft=20), "ttft_ms_p50", "better"),
        (cell(ram=1101), "ram_used_mb", "regression"),
        (cell(ram=1100), "ram_used_mb", "worse"),
        (cell(ram=100), "ram_used_mb", "better"),
    ],
)
def test_direction_and_threshold(new: Cell, metric: str, verdict: str) -> None:
    assert verdicts(cell(), new)[metric] == verdict


def test_a_baseline_cell_that_cannot_be_compared_makes_it_incomplete() -> None:
    for candidate in ([], [cell(valid=False)]):
        found = compare(("a", [cell()]), ("b", candidate), Thresholds())
        assert (found.regressed, found.complete, len(found.not_compared)) == (False, False, 1)
    more = compare(("a", [cell()]), ("b", [cell(), cell(batch_size=2)]), Thresholds())
    assert more.complete


def test_overlapping_intervals_are_told() -> None:
    old = cell(intervals={"output_tokens_per_s": Interval(mean=100, low=80, high=120)})
    new = cell(speed=90, intervals={"output_tokens_per_s": Interval(mean=90, low=85, high=95)})
    found = compare(("a", [old]), ("b", [new]), Thresholds())
    change = next(c for c in found.changes if c.metric == "output_tokens_per_s")
    assert (change.verdict, change.within_noise, found.regressed) == ("regression", True, True)


def test_thresholds_are_the_callers() -> None:
    found = compare(("a", [cell()]), ("b", [cell(speed=80)]), Thresholds(throughput=0.3))
    assert not found.regressed
