"""A cell's numbers out of its raw samples. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmark_runner.matrix import CellPlan
from benchmark_runner.timing import RequestTiming
from compute_common.schemas.benchmark import Cell, Percentiles

LATE_MS = 10.0
LATE_SHARE_OF_TTFT = 0.2


@dataclass(frozen=True, slots=True)
class Slo:
    """A request counts as goodput when it is within both, milliseconds."""

    ttft_ms: float
    tpot_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the closest ranks (R-7, as numpy's default); `ordered` is not empty."""
    rank = share * (len(ordered) - 1)
    low, high = math.floor(rank), math.ceil(rank)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def percentiles(seconds: Iterable[float]) -> Percentiles:
    """Milliseconds with three decimals; all None without samples."""
    ordered = sorted(value * 1000 for value in seconds)
    if not ordered:
        return Percentiles()
    return Percentiles(
        mean=round(math.fsum(ordered) / len(ordered), 3),
        p50=round(percentile(ordered, 0.50), 3),
        p90=round(percentile(ordered, 0.90), 3),
        p95=round(percentile(ordered, 0.95), 3),
        p99=round(percentile(ordered, 0.99), 3),
    )


def summarise(plan: CellPlan, timings: Sequence[RequestTiming], slo: Slo, notes: Sequence[str] = ()) -> Cell:
    """Rates over the time from the common start to the last end; failed requests only count as errors."""
    good = [timing for timing in timings if timing.ok]
    errors = Counter(t.error or "no-text" for t in timings if not t.ok)
    start = min((t.due for t in timings), default=0.0)
    duration = max((t.ended for t in timings), default=0.0) - start
    per_second = (lambda amount: round(amount / duration, 3)) if duration > 0 else (lambda _amount: 0.0)
    output = sum(t.output_tokens or 0 for t in good)
    prompt = sum(t.prompt_tokens or 0 for t in good)
    ttft, late = percentiles(t.ttft for t in good), percentiles(t.lateness for t in timings)
    why = [*notes, *_doubts(good, errors, ttft, late)]
    return Cell(
        batch_size=plan.concurrency,
        context_length=plan.context_length,
        output_tokens=plan.output_tokens,
        valid=not why,
        errors=errors.total(),
        error_kinds=dict(errors),
        requests=len(timings),
        duration_s=round(duration, 6),
        ttft_ms=ttft,
        itl_ms=percentiles(gap for t in good for gap in t.gaps),
        tpot_ms=percentiles(t.tpot for t in good if t.tpot is not None),
        e2e_ms=percentiles(t.e2e for t in good),
        output_tokens_per_s=per_second(output),
        total_tokens_per_s=per_second(output + prompt),
        requests_per_s=per_second(len(good)),
        goodput_per_s=per_second(sum(_within(t, slo) for t in good)),
        send_lateness_ms=late,
        note="; ".join([*why, *_remarks(plan, good)]) or None,
    )


def _doubts(
    good: Sequence[RequestTiming], errors: Counter[str], ttft: Percentiles, late: Percentiles
) -> list[str]:
    """Reasons not to trust the cell."""
    why = []
    if not good:
        why.append("no request succeeded")
    elif errors:
        why.append(f"{errors.total()} requests failed")
    if any(timing.output_tokens is None for timing in good):
        why.append("the server does not report usage, so tokens are unknown")
    if late.p99 is not None and late.p99 > max(LATE_MS, LATE_SHARE_OF_TTFT * (ttft.p50 or 0)):
        why.append(f"the load generator was late (p99 {late.p99:.0f} ms): this machine was the bottleneck")
    return why


def _remarks(plan: CellPlan, good: Sequence[RequestTiming]) -> list[str]:
    """What the reader should know, though the numbers stand."""
    remarks = []
    prompts = {t.prompt_tokens for t in good if t.prompt_tokens is not None}
    if prompts and prompts != {plan.context_length}:
        remarks.append(f"prompts had {min(prompts)} to {max(prompts)} tokens")
    outputs = {t.output_tokens for t in good if t.output_tokens is not None}
    if outputs and outputs != {plan.output_tokens}:
        remarks.append(f"answers had {min(outputs)} to {max(outputs)} tokens")
    return remarks


def _within(timing: RequestTiming, slo: Slo) -> bool:
    tpot = timing.tpot or 0.0
    return timing.ttft * 1000 <= slo.ttft_ms and tpot * 1000 <= slo.tpot_ms
