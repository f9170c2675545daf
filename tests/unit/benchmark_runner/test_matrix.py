"""Cells and prompts."""

from benchmark_runner import prompts
from benchmark_runner.matrix import cells
from compute_common.schemas.benchmark import BenchmarkRequest


def request(**fields: object) -> BenchmarkRequest:
    return BenchmarkRequest.model_validate({"model_name": "m"} | fields)


def test_every_pair_once_and_cheap_ones_first() -> None:
    plans = cells(request(batch_sizes=[8, 1, 8], context_lengths=[512, 64]))
    pairs = [(plan.concurrency, plan.context_length) for plan in plans]
    assert pairs == [(1, 64), (1, 512), (8, 64), (8, 512)]
    assert len({plan.seed for plan in plans}) == 4


def test_prompts_are_reproducible_and_share_no_prefix() -> None:
    made = [prompts.text(prompts.seed_of(7, number), 50) for number in range(100)]
    assert made == [prompts.text(prompts.seed_of(7, number), 50) for number in range(100)]
    assert len({text.split()[0] for text in made}) == 100
    assert {len(text.split()) for text in made} == {50}
