"""AIPerf's command line and the records it exports (seen with 0.13). Pure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from benchmark_runner.plan import CellPlan
from benchmark_runner.timing import RequestTiming, http_error

PROMPTS, TOKENIZER, ARTIFACTS, RECORDS = "prompts.jsonl", "tokenizer", "out", "profile_export.jsonl"
LOG = "logs/aiperf.log"  # in ARTIFACTS, as is RECORDS
NANO = 1e9
# AIPerf loads a tokenizer even where prompts are given and the server counts: this one knows no word.
# Its folder must be named relative to the working folder, or AIPerf asks the network for it.
TOKENIZER_FILES = {
    "tokenizer.json": json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
        }
    ),
    "tokenizer_config.json": json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Of the server: `base_url` ends in /v1."""

    base_url: str
    model: str
    chat: bool
    ignore_eos: bool
    request_seconds: float


def arguments(plan: CellPlan, asked: Asked) -> list[str]:
    """One repeat of a closed-loop cell after its warm-up. Each value hangs on its name: none is an option."""
    extra = [f"max_tokens:{plan.output_tokens}", "temperature:0"]
    extra += ["ignore_eos:true"] if asked.ignore_eos else []
    return [
        "profile",
        f"--model={asked.model}",
        f"--url={asked.base_url.removesuffix('/v1')}",
        f"--endpoint-type={'chat' if asked.chat else 'completions'}",
        "--streaming",
        f"--input-file={PROMPTS}",
        "--custom-dataset-type=single_turn",
        f"--tokenizer=./{TOKENIZER}",
        "--use-server-token-count",
        "--use-legacy-max-tokens",
        *(f"--extra-inputs={item}" for item in extra),
        f"--concurrency={plan.concurrency}",
        f"--request-count={plan.requests}",
        *([f"--warmup-request-count={plan.warmup}"] if plan.warmup else []),
        f"--request-timeout-seconds={asked.request_seconds:g}",
        f"--random-seed={plan.seed % (1 << 31)}",
        f"--output-artifact-dir={ARTIFACTS}",
        "--export-level=records",
        "--ui=none",
        "--no-gpu-telemetry",
        "--no-server-metrics",
    ]


def dataset(prompts: Iterable[str]) -> str:
    """The input file: a prompt a line."""
    return "".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts)


def timings(lines: Sequence[str], repeat: int) -> list[RequestTiming]:
    """The measured requests among the records; a line that is none, or not whole, is left out.

    Its clock is nanoseconds since 1970. A request is due when AIPerf decided on it (`credit_issued_ns`).
    Chunks are the first output token and the gaps after it.
    """
    found = (_record(line) for line in lines if line.endswith("\n"))
    records = [record for record in found if record is not None]
    zero = min((record["metadata"]["request_start_ns"] for record in records), default=0)
    made = (_timing(record, zero, repeat) for record in records)
    return [timing for timing in made if timing is not None]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        about = record["metadata"]
        measured = about["benchmark_phase"] == "profiling"
        whole = all(isinstance(about[name], int) for name in ("request_start_ns", "request_end_ns"))
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return record if measured and whole else None


def _timing(record: dict[str, Any], zero: int, repeat: int) -> RequestTiming | None:
    about, metrics = record["metadata"], record.get("metrics")
    sent = (about["request_start_ns"] - zero) / NANO
    ended = (about["request_end_ns"] - zero) / NANO
    issued = about.get("credit_issued_ns")
    due = min(sent, (issued - zero) / NANO) if isinstance(issued, int) else sent
    error = _error(record.get("error"))
    if error is not None or not isinstance(metrics, dict):
        return RequestTiming(due, sent, ended, error=error or "no-metrics", repeat=repeat)
    first = _number(metrics, "time_to_first_token")
    gaps = _values(metrics, "inter_chunk_latency")
    if first is None:
        return RequestTiming(due, sent, ended, error="no-text", repeat=repeat)
    chunks = tuple(accumulate((gap / 1000 for gap in gaps), initial=sent + first / 1000))
    prompt, output = _count(metrics, "usage_prompt_tokens"), _count(metrics, "usage_completion_tokens")
    return RequestTiming(due, sent, ended, chunks, prompt, output, repeat=repeat)


def _error(error: object) -> str | None:
    if error is None:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    if isinstance(code, int) and 100 <= code < 600:
        return http_error(code)
    return f"aiperf-{kind[:60]}" if isinstance(kind, str) else "aiperf"


def _value(metrics: dict[str, Any], name: str) -> object:
    found = metrics.get(name)
    return found.get("value") if isinstance(found, dict) else None


def _number(metrics: dict[str, Any], name: str) -> float | None:
    value = _value(metrics, name)
    return float(value) if _sane(value) else None  # type: ignore[arg-type]


def _values(metrics: dict[str, Any], name: str) -> list[float]:
    value = _value(metrics, name)
    return [float(gap) for gap in value if _sane(gap)] if isinstance(value, list) else []


def _count(metrics: dict[str, Any], name: str) -> int | None:
    number = _number(metrics, name)
    return None if number is None else int(number)


def _sane(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1e12
