"""Which cells a run has, in which order. Pure."""

from benchmark_runner.plan import CellPlan
from compute_common.problems import invalid
from compute_common.schemas.benchmark import BenchmarkRequest

MAX_UNDER_WAY = 1024  # of an open loop
MAX_REQUESTS = 100_000  # of a cell
MAX_PROMPT_TOKENS = 20_000_000  # of a cell: about 120 MB of requests, which lie in memory before it starts


def cells(request: BenchmarkRequest) -> tuple[CellPlan, ...]:
    """batch_sizes (or request_rates) × context_lengths, each pair once, cheap ones first, seeds of their own.

    Raises a 422 for a cell that no generator could hold.
    """
    contexts = sorted(set(request.context_lengths))
    if request.request_rates:
        found = [
            at_rate(request, context, rate, number)
            for number, (rate, context) in enumerate(
                (rate, context) for rate in sorted(set(request.request_rates)) for context in contexts
            )
        ]
    elif request.find_max_rate:
        found = []
    else:
        pairs = {(batch, context) for batch in request.batch_sizes for context in contexts}
        ordered = sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair))
        found = [_batch(request, *pair, number) for number, pair in enumerate(ordered)]
    for plan in found:
        check(plan)
    return tuple(found)


def at_rate(request: BenchmarkRequest, context: int, rate: float, number: int) -> CellPlan:
    """An open-loop cell, measured once: its requests are its repeats."""
    return CellPlan(
        concurrency=MAX_UNDER_WAY,
        context_length=context,
        output_tokens=request.output_tokens,
        iterations=1,
        warmup=request.warmup,
        seed=request.seed * 1_000_003 + number,
        shared_prefix=request.shared_prefix_tokens,
        rate=rate,
        seconds=request.rate_seconds,
    )


def check(plan: CellPlan) -> None:
    """Raises a 422 for a cell that no generator could hold."""
    requests = plan.requests * plan.repeats
    if requests > MAX_REQUESTS:
        raise invalid(f"{plan.label} would be {requests} requests, more than {MAX_REQUESTS} in one cell")
    if requests * plan.context_length > MAX_PROMPT_TOKENS:
        raise invalid(
            f"{plan.label} would be {requests * plan.context_length} prompt tokens, more than "
            f"{MAX_PROMPT_TOKENS} in one cell; fewer iterations, repeats or seconds would do"
        )


def _batch(request: BenchmarkRequest, batch: int, context: int, number: int) -> CellPlan:
    return CellPlan(
        concurrency=batch,
        context_length=context,
        output_tokens=request.output_tokens,
        iterations=request.iterations,
        warmup=request.warmup,
        seed=request.seed * 1_000_003 + number,
        repeats=request.repeats,
        shared_prefix=request.shared_prefix_tokens,
    )
