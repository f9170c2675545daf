"""What a request must keep to count. Pure."""

from dataclasses import dataclass

from benchmark_runner.timing import RequestTiming
from compute_common.schemas.benchmark import SloRequest


@dataclass(frozen=True, slots=True)
class Slo:
    """Milliseconds, each limit optional; `attainment`: the share of requests that must keep them."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None
    attainment: float = 0.9

    def kept(self, timing: RequestTiming) -> bool:
        """Whether a request was answered within every limit."""
        if not timing.ok:
            return False
        took = ((timing.ttft, self.ttft_ms), (timing.tpot or 0.0, self.tpot_ms), (timing.e2e, self.e2e_ms))
        return all(limit is None or seconds * 1000 <= limit for seconds, limit in took)


def wanted(default: Slo, asked: SloRequest | None) -> Slo:
    """The request's own limits where it has any, else the service's."""
    if asked is None:
        return default
    if asked.ttft_ms is None and asked.tpot_ms is None and asked.e2e_ms is None:
        return Slo(default.ttft_ms, default.tpot_ms, default.e2e_ms, asked.attainment)
    return Slo(asked.ttft_ms, asked.tpot_ms, asked.e2e_ms, asked.attainment)
