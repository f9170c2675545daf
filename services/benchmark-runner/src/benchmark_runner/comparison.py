"""Whether one run is worse than another, by the direction of each metric. Pure."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from compute_common.schemas.benchmark import Cell, Comparison, Interval, MetricChange, Thresholds

Verdict = Literal["better", "same", "worse", "regression"]
SMALL = 1e-9
Value = Callable[[Cell], float | None]

# Metric, whether more is better, which threshold, what it is, which interval tells its noise.
_METRICS: tuple[tuple[str, bool, str, Value, str], ...] = (
    ("output_tokens_per_s", True, "throughput", lambda c: c.output_tokens_per_s, "output_tokens_per_s"),
    ("requests_per_s", True, "throughput", lambda c: c.requests_per_s, "requests_per_s"),
    ("goodput_per_s", True, "throughput", lambda c: c.goodput_per_s, ""),
    ("ttft_ms_p50", False, "latency", lambda c: c.ttft_ms.p50, "ttft_ms"),
    ("ttft_ms_p99", False, "latency", lambda c: c.ttft_ms.p99, ""),
    ("tpot_ms_p50", False, "latency", lambda c: c.tpot_ms.p50, "tpot_ms"),
    ("e2e_ms_p50", False, "latency", lambda c: c.e2e_ms.p50, "e2e_ms"),
    ("e2e_ms_p99", False, "latency", lambda c: c.e2e_ms.p99, ""),
    ("ram_used_mb", False, "memory", lambda c: c.resources.ram_used_mb if c.resources else None, ""),
    ("vram_used_mb", False, "memory", lambda c: c.resources.vram_used_mb if c.resources else None, ""),
)


def compare(
    baseline: tuple[str, Sequence[Cell]], candidate: tuple[str, Sequence[Cell]], thresholds: Thresholds
) -> Comparison:
    """Cells of the same load, context and output length, each metric that both have.

    A change beyond its threshold in the bad direction is a regression; exactly at it is not. A cell that is
    not valid, or that only one run has, is named and not compared.
    """
    old, new = _by_key(baseline[1]), _by_key(candidate[1])
    changes: list[MetricChange] = []
    left_out: list[str] = []
    complete = True
    for key in sorted(old.keys() | new.keys()):
        reason = _unfit(old.get(key), new.get(key))
        if reason is None:
            changes.extend(_changes(old[key], new[key], thresholds))
        else:
            left_out.append(f"{_name(old.get(key) or new[key])}: {reason}")
            complete = complete and not (key in old and old[key].valid)
    return Comparison(
        baseline=baseline[0],
        candidate=candidate[0],
        regressed=any(change.verdict == "regression" for change in changes),
        complete=complete,
        changes=changes,
        not_compared=left_out,
        thresholds=thresholds,
    )


def _by_key(cells: Iterable[Cell]) -> dict[tuple[float, int, int, int], Cell]:
    """The last of equal cells counts."""
    return {(c.request_rate or 0.0, c.batch_size, c.context_length, c.output_tokens): c for c in cells}


def _unfit(old: Cell | None, new: Cell | None) -> str | None:
    if old is None:
        return "the baseline has no such cell"
    if new is None:
        return "the candidate has no such cell"
    if not old.valid:
        return "not valid in the baseline"
    return None if new.valid else "not valid in the candidate"


def _changes(old: Cell, new: Cell, thresholds: Thresholds) -> Iterable[MetricChange]:
    for metric, more_is_better, kind, value, noise in _METRICS:
        before, after = value(old), value(new)
        if before is None or after is None or before <= 0:
            continue
        change = after / before - 1
        worse = -change if more_is_better else change
        yield MetricChange(
            cell=_name(old),
            metric=metric,
            baseline=before,
            candidate=after,
            change=round(change, 6),
            verdict=_verdict(worse, getattr(thresholds, kind)),
            within_noise=_overlap(old.intervals.get(noise), new.intervals.get(noise)),
        )


def _verdict(worse: float, threshold: float) -> Verdict:
    if worse > threshold + SMALL:
        return "regression"
    if abs(worse) <= SMALL:
        return "same"
    return "worse" if worse > 0 else "better"


def _overlap(old: Interval | None, new: Interval | None) -> bool:
    return old is not None and new is not None and old.low <= new.high and new.low <= old.high


def _name(cell: Cell) -> str:
    load = f"batch {cell.batch_size}" if cell.request_rate is None else f"{cell.request_rate:g} requests/s"
    return f"{load}, context {cell.context_length}, output {cell.output_tokens}"
