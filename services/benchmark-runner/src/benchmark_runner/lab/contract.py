"""The command line of llama-throughput-lab's full sweep: variables in, a CSV out. Pure."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmark_runner import prompts
from compute_common.schemas.benchmark import BenchmarkRequest, Cell

SCRIPT = "scripts/full_sweep.py"
RESULTS = "full_sweep/full_sweep_*.csv"
COLUMNS = ("concurrency", "throughput_tps", "total_tokens", "elapsed_s", "errors")
MAX_CONTEXT = 16_384  # the prompt travels in one environment variable, which Linux limits to 128 KiB
SPARE_TOKENS = 64  # of a session's context, since the prompt's words are not counted in tokens
NOTE = (
    "by llama-throughput-lab: tokens/s only; the prompt is so many words, the same for every request, so the "
    "engine's prompt cache answers for most of it"
)


@dataclass(frozen=True, slots=True)
class LabHost:
    """What the sweep runs with on this host."""

    server: str
    nginx: str
    model: str
    results: str
    server_port: int
    nginx_port: int
    ready_seconds: float
    request_seconds: float


def variables(request: BenchmarkRequest, context: int, host: LabHost) -> dict[str, str]:
    """One sweep measures one context length: batch_sizes become its list of concurrencies.

    `LLAMA_UBATCH_LIST` stays at its default: the sweep would pass `--ubatch`, which llama-server lacks.
    """
    batches = sorted(set(request.batch_sizes))
    # A token has a word's worth of context twice over: a word may be two tokens.
    session = 2 * context + request.output_tokens + SPARE_TOKENS
    return {
        "LLAMA_SERVER_BIN": host.server,
        "LLAMA_MODEL_PATH": host.model,
        "LLAMA_RESULTS_DIR": host.results,
        "LLAMA_INSTANCES_LIST": "1",
        "LLAMA_PARALLEL_LIST": str(batches[-1]),
        "LLAMA_CONCURRENCY_LIST": ",".join(str(batch) for batch in batches),
        "LLAMA_REQUESTS_MULTIPLIER": str(request.iterations * request.repeats),
        "LLAMA_N_PREDICT": str(request.output_tokens),
        "LLAMA_TEMPERATURE": "0",
        "LLAMA_PROMPT": prompts.text(prompts.seed_of(request.seed, 0), context - 1),
        "LLAMA_CTXSIZE_PER_SESSION": str(session),
        "LLAMA_WARMUP_REQUESTS": str(request.warmup),
        "LLAMA_READY_TIMEOUT": str(math.ceil(host.ready_seconds)),
        "LLAMA_SERVER_BIND_TIMEOUT": str(math.ceil(host.ready_seconds)),
        "LLAMA_REQUEST_TIMEOUT": str(host.request_seconds),
        "LLAMA_SERVER_BASE_PORT": str(host.server_port),
        "LLAMA_NGINX_PORT": str(host.nginx_port),
        "NGINX_BIN": host.nginx,
    }


def cells_in(lines: Iterable[str], request: BenchmarkRequest, context: int) -> list[Cell]:
    """The rows that are whole; a last line still being written is left for the next look."""
    whole = [line for line in lines if line.endswith("\n")]
    found = (_cell(row, request, context) for row in csv.DictReader(whole))
    return [cell for cell in found if cell is not None]


def _cell(row: Mapping[str, str | None], request: BenchmarkRequest, context: int) -> Cell | None:
    try:
        concurrency, speed, tokens, elapsed, errors = (float(row.get(name) or "") for name in COLUMNS)
    except ValueError:
        return None
    if not all(
        math.isfinite(value) and value >= 0 for value in (concurrency, speed, tokens, elapsed, errors)
    ):
        return None
    requests = int(concurrency) * request.iterations * request.repeats
    good = max(0, requests - int(errors))
    return Cell(
        batch_size=int(concurrency),
        context_length=context,
        output_tokens=request.output_tokens,
        valid=not errors and tokens > 0,
        errors=int(errors),
        error_kinds={"lab": int(errors)} if errors else {},
        requests=requests,
        repeats=request.repeats,
        duration_s=elapsed,
        output_tokens_per_s=round(speed, 3),
        requests_per_s=round(good / elapsed, 3) if elapsed else 0.0,
        note=NOTE if not errors else f"{int(errors)} requests failed; {NOTE}",
    )
