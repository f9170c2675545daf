"""Which cells a run has, in which order."""

from dataclasses import dataclass

from compute_common.schemas.benchmark import BenchmarkRequest


@dataclass(frozen=True, slots=True)
class CellPlan:
    """`concurrency` clients in a closed loop, each sending `iterations` requests one after another."""

    concurrency: int
    context_length: int
    output_tokens: int
    iterations: int
    warmup: int
    seed: int

    @property
    def requests(self) -> int:
        return self.concurrency * self.iterations

    @property
    def label(self) -> str:
        return f"batch {self.concurrency}, context {self.context_length}"


def cells(request: BenchmarkRequest) -> tuple[CellPlan, ...]:
    """batch_sizes × context_lengths, repeats once, cheap ones first, each with a seed of its own."""
    pairs = sorted(
        {(batch, context) for batch in request.batch_sizes for context in request.context_lengths},
        key=lambda pair: (pair[0] * pair[1], pair),
    )
    return tuple(
        CellPlan(
            concurrency=batch,
            context_length=context,
            output_tokens=request.output_tokens,
            iterations=request.iterations,
            warmup=request.warmup,
            seed=request.seed * 1_000_003 + number,
        )
        for number, (batch, context) in enumerate(pairs)
    )
