"""Cells and prompts."""

import pytest

from benchmark_runner import prompts
from benchmark_runner.matrix import cells
from compute_common.problems import Problem
from compute_common.schemas.benchmark import BenchmarkRequest


def request(**fields: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate({"model_name": "m"} | fields)


def test_every_pair_once_and_cheap_ones_first() -> None:
    plans = cells(request(batch_sizes=[8, 1, 8], context_lengths=[512, 64]))
    pairs = [(plan.concurrency, plan.context_length) for plan in plans]
    assert pairs == [(1, 64), (1, 512), (8, 64), (8, 512)]
    assert len({plan.seed for plan in plans}) == 4


def test_prompts_are_reproducible_and_none_begins_as_another() -> None:
    made = [prompts.text(prompts.seed_of(7, number), 50, 3).split() for number in range(100)]
    assert made == [prompts.text(prompts.seed_of(7, number), 50, 3).split() for number in range(100)]
    assert len({tuple(words[:5]) for words in made}) == 100  # of 54 words
    assert len({tuple(sorted(words)) for words in made}) == 1  # the same words: the same tokens


def test_rates_replace_batches_and_are_measured_once() -> None:
    plans = cells(request(request_rates=[4, 2, 4], context_lengths=[64], rate_seconds=5, batch_sizes=[9]))
    assert [(plan.rate, plan.requests, plan.repeats) for plan in plans] == [(2, 10, 1), (4, 20, 1)]


@pytest.mark.parametrize(
    "fields",
    [
        {"batch_sizes": [4096], "iterations": 100},
        {"batch_sizes": [64], "context_lengths": [1 << 21]},
        {"request_rates": [10_000.0], "rate_seconds": 3600},
    ],
)
def test_a_cell_that_no_generator_could_hold_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(Problem, match="in one cell"):
        cells(request(**fields))
