"""What a cell asks of the load generator. Pure and light: the generator's own process imports it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CellPlan:
    """Closed loop: `concurrency` clients, each with `iterations` requests one after another, `repeats` times.

    Open loop, with `rate`: requests at random moments (Poisson), `rate` a second for `seconds`; `concurrency`
    is then the most that may be under way at once.
    """

    concurrency: int
    context_length: int
    output_tokens: int
    iterations: int
    warmup: int
    seed: int
    repeats: int = 1
    shared_prefix: int = 0
    rate: float | None = None
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        """Of one repeat."""
        if self.rate is not None:
            return max(1, round(self.rate * self.seconds))
        return self.concurrency * self.iterations

    @property
    def label(self) -> str:
        load = f"batch {self.concurrency}" if self.rate is None else f"{self.rate:g} requests/s"
        return f"{load}, context {self.context_length}"
