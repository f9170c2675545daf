"""A cell's numbers out of its raw samples. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmark_runner.plan import CellPlan
from benchmark_runner.slo import Slo
from benchmark_runner.statistics import interval, percentiles
from benchmark_runner.timing import UNAUTHORISED, RequestTiming
from compute_common.schemas.benchmark import Cell, Interval, Percentiles

LATE_MS = 10.0
LATE_SHARE_OF_TTFT = 0.2
PROMPT_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Samples:
    """All a generator tells of a cell. `stalls`: how late its own timers were, seconds."""

    timings: Sequence[RequestTiming] = ()
    stalls: Sequence[float] = ()
    cpu_seconds: float = 0.0
    problem: str | None = None
    partial: bool = False
    notes: Sequence[str] = field(default=())


def refusal(problem: str) -> str:
    """The note of a cell whose first short request failed, and what to do where that is known."""
    said = f"a first short request failed ({problem})"
    if problem == UNAUTHORISED:
        said += ": the server wants an API key, or another one; BENCHMARK_ENDPOINT_KEYS names it for its URL"
    return said


@dataclass(frozen=True, slots=True)
class _Rates:
    """Of one repeat, or of all: amounts over the seconds that were measured."""

    seconds: float
    output: int
    prompt: int
    good: int
    within: int

    def per_second(self, amount: float) -> float:
        return round(amount / self.seconds, 3) if self.seconds > 0 else 0.0


def summarise(plan: CellPlan, samples: Samples, slo: Slo) -> Cell:
    """Rates over the time from the common start to the last end; failed requests only count as errors."""
    timings = _all(samples)
    good = [timing for timing in timings if timing.ok]
    errors = Counter(t.error or "no-text" for t in timings if not t.ok)
    repeats = [[t for t in timings if t.repeat == number] for number in range(plan.repeats)]
    whole = _rates(repeats, slo)
    ttft, late = percentiles(t.ttft for t in good), percentiles(t.lateness for t in timings)
    stall = percentiles(samples.stalls)
    why = [*samples.notes, *_doubts(plan, good, errors), *_late(ttft, late, stall)]
    if samples.partial:
        why.append("cut off before its end")
    chunks = sum(len(t.chunks) for t in timings)
    prompts = [t.prompt_tokens for t in good if t.prompt_tokens is not None]
    return Cell(
        batch_size=plan.concurrency,
        context_length=plan.context_length,
        output_tokens=plan.output_tokens,
        valid=not why,
        errors=errors.total(),
        error_kinds=dict(errors),
        requests=len(timings),
        repeats=plan.repeats,
        partial=samples.partial,
        request_rate=plan.rate,
        slo_attainment=round(whole.within / len(timings), 4) if timings else None,
        prompt_tokens=[min(prompts), max(prompts)] if prompts else None,
        duration_s=round(whole.seconds, 6),
        ttft_ms=ttft,
        itl_ms=percentiles(gap for t in good for gap in t.gaps),
        tpot_ms=percentiles(t.tpot for t in good if t.tpot is not None),
        e2e_ms=percentiles(t.e2e for t in good),
        output_tokens_per_s=whole.per_second(whole.output),
        total_tokens_per_s=whole.per_second(whole.output + whole.prompt),
        requests_per_s=whole.per_second(whole.good),
        goodput_per_s=whole.per_second(whole.within),
        send_lateness_ms=late,
        generator_stall_ms=stall,
        generator_cpu_us_per_chunk=_cpu_us(samples, chunks),
        intervals=_intervals(repeats, slo),
        note="; ".join([*why, *_remarks(plan, good)]) or None,
    )


def _cpu_us(samples: Samples, chunks: int) -> float | None:
    """None of a generator that does not tell its processor time."""
    return round(samples.cpu_seconds * 1e6 / chunks, 2) if chunks and samples.cpu_seconds else None


def _all(samples: Samples) -> Sequence[RequestTiming]:
    """A target that refused the first question is a cell with that one error."""
    if samples.problem is None:
        return samples.timings
    return [*samples.timings, RequestTiming(0.0, 0.0, 0.0, error=samples.problem)]


def _rates(repeats: Sequence[Sequence[RequestTiming]], slo: Slo) -> _Rates:
    """Of several repeats together; the pauses between them do not count."""
    good = [t for timings in repeats for t in timings if t.ok]
    return _Rates(
        seconds=math.fsum(_seconds(timings) for timings in repeats),
        output=sum(t.output_tokens or 0 for t in good),
        prompt=sum(t.prompt_tokens or 0 for t in good),
        good=len(good),
        within=sum(slo.kept(t) for t in good),
    )


def _seconds(timings: Sequence[RequestTiming]) -> float:
    if not timings:
        return 0.0
    return max(t.ended for t in timings) - min(t.due for t in timings)


def _intervals(repeats: Sequence[Sequence[RequestTiming]], slo: Slo) -> dict[str, Interval]:
    """Over repeats that had an answer; none where fewer than two had."""
    useful = [timings for timings in repeats if any(t.ok for t in timings)]
    rates = [_rates([timings], slo) for timings in useful]
    of_each: dict[str, list[float]] = {
        "output_tokens_per_s": [r.per_second(r.output) for r in rates],
        "total_tokens_per_s": [r.per_second(r.output + r.prompt) for r in rates],
        "requests_per_s": [r.per_second(r.good) for r in rates],
    }
    measures: tuple[tuple[str, Callable[[RequestTiming], float | None]], ...] = (
        ("ttft_ms", lambda t: t.ttft),
        ("tpot_ms", lambda t: t.tpot),
        ("e2e_ms", lambda t: t.e2e),
    )
    for name, of in measures:
        means = [
            percentiles(v for t in timings if t.ok and (v := of(t)) is not None).mean for timings in useful
        ]
        of_each[name] = [mean for mean in means if mean is not None]
    found = {name: interval(values) for name, values in of_each.items()}
    return {name: value for name, value in found.items() if value is not None}


def _doubts(plan: CellPlan, good: Sequence[RequestTiming], errors: Counter[str]) -> list[str]:
    """Reasons in the answers not to trust the cell."""
    why = []
    if not good:
        why.append("no request succeeded")
    elif errors:
        why.append(f"{errors.total()} requests failed")
    if any(timing.output_tokens is None for timing in good):
        why.append("the server does not report usage, so tokens are unknown")
    seen = [t.prompt_tokens for t in good if t.prompt_tokens is not None]
    wrong = [count for count in seen if abs(count - plan.context_length) > _tolerated(plan)]
    if wrong:
        why.append(
            f"prompts had {min(seen)} to {max(seen)} tokens by the server's count, not {plan.context_length}"
        )
    return why


def _late(ttft: Percentiles, late: Percentiles, stall: Percentiles) -> list[str]:
    """Whether this machine, not the server, was what was measured."""
    limit = max(LATE_MS, LATE_SHARE_OF_TTFT * (ttft.p50 or 0))
    if late.p99 is not None and late.p99 > limit:
        return [f"the load generator was late (p99 {late.p99:.0f} ms): this machine was the bottleneck"]
    if stall.p99 is not None and stall.p99 > limit:
        return [f"the load generator stood still (p99 {stall.p99:.0f} ms): this machine was the bottleneck"]
    return []


def _remarks(plan: CellPlan, good: Sequence[RequestTiming]) -> list[str]:
    """What the reader should know, though the numbers stand."""
    remarks = []
    prompts = {t.prompt_tokens for t in good if t.prompt_tokens is not None}
    near = all(abs(count - plan.context_length) <= _tolerated(plan) for count in prompts)
    if prompts and near and prompts != {plan.context_length}:
        remarks.append(f"prompts had {min(prompts)} to {max(prompts)} tokens")
    outputs = {t.output_tokens for t in good if t.output_tokens is not None}
    if outputs and outputs != {plan.output_tokens}:
        remarks.append(f"answers had {min(outputs)} to {max(outputs)} tokens")
    return remarks


def _tolerated(plan: CellPlan) -> float:
    return PROMPT_TOLERANCE * plan.context_length
