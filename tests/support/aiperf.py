"""A stand-in for AIPerf 0.13's command line: `python -m tests.support.aiperf profile …`.

Its options, its records as 0.13 writes them, its log; but no load: requests are invented, 50 ms to the first
token and 10 ms gaps. The model's name says how it goes: `slow` stops after its first record, `broken` writes
none, `odd` writes one that is no record, one that failed and one half. A child sleeps beside it meanwhile.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

START = 1_795_467_872_000_000_000
MILLI = 1_000_000


def options() -> argparse.Namespace:
    """What the adapter may send; anything else ends it with code 2, as the real one does."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["profile"])
    for name in ("model", "url", "input-file", "tokenizer", "output-artifact-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--endpoint-type", choices=["completions", "chat"], required=True)
    parser.add_argument("--custom-dataset-type", choices=["single_turn"], required=True)
    parser.add_argument("--export-level", choices=["summary", "records", "raw"], required=True)
    parser.add_argument("--ui", choices=["none", "simple", "dashboard"])
    parser.add_argument("--extra-inputs", action="append", default=[])
    for name in ("concurrency", "request-count", "warmup-request-count", "random-seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--request-timeout-seconds", type=float)
    for name in ("streaming", "use-server-token-count", "use-legacy-max-tokens"):
        parser.add_argument(f"--{name}", action="store_true", required=True)
    for name in ("no-gpu-telemetry", "no-server-metrics"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def record(number: int, asked: argparse.Namespace, words: int, tokens: int) -> dict[str, Any]:
    """One request, of those that leave together every two seconds."""
    turn = (number - asked.warmup_request_count) // asked.concurrency
    start = START + turn * 2000 * MILLI
    phase = "warmup" if number < asked.warmup_request_count else "profiling"
    took = 50 + 10 * (tokens - 1)

    def value(amount: object, unit: str) -> dict[str, object]:
        return {"value": amount, "unit": unit}

    return {
        "metadata": {
            "session_num": number,
            "credit_issued_ns": start - 2 * MILLI,
            "request_start_ns": start,
            "request_end_ns": start + (took + 1) * MILLI,
            "benchmark_phase": phase,
            "was_cancelled": False,
        },
        "metrics": {
            "time_to_first_token": value(50.0, "ms"),
            "inter_chunk_latency": value([10.0] * (tokens - 1), "ms"),
            "request_latency": value(float(took), "ms"),
            "usage_prompt_tokens": value(words, "tokens"),
            "usage_completion_tokens": value(tokens, "tokens"),
        },
    }


def main() -> int:
    if sys.argv[1:] == ["--version"]:
        print("0.13.0-stand-in")
        return 0
    asked = options()
    assert not Path(asked.tokenizer).is_absolute()
    assert (Path(asked.tokenizer) / "tokenizer.json").is_file()
    given = dict(item.split(":", 1) for item in asked.extra_inputs)
    prompts = [json.loads(line)["text"] for line in Path(asked.input_file).read_text("utf-8").splitlines()]
    assert len(set(prompts)) == len(prompts) == asked.request_count + asked.warmup_request_count
    folder = Path(asked.output_artifact_dir)
    (folder / "logs").mkdir(parents=True)
    if "broken" in asked.model:
        (folder / "logs" / "aiperf.log").write_text("20:56 ERROR    All 3 inference request(s) failed\n")
        return 1
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "aiperf-worker"])
    with (folder / "profile_export.jsonl").open("w", encoding="utf-8", buffering=1) as file:
        for number, prompt in enumerate(prompts):
            words = 2 * len(prompt.split())  # as the scripted server counts
            file.write(json.dumps(record(number, asked, words, int(given["max_tokens"]))) + "\n")
            if "slow" in asked.model and number == asked.warmup_request_count:
                time.sleep(600)
        if "odd" in asked.model:
            failed = record(asked.warmup_request_count, asked, 1, 1)
            error = {"error": {"code": 503, "type": "ServiceUnavailable", "message": "no"}}
            file.write('["no record"]\n' + json.dumps(failed | error) + "\n")
            file.write('{"metadata": {"benchmark_ph')
    child.terminate()
    child.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
