"""Throughput against what llama.cpp itself says: the seconds that llama-server counts in its decode loop."""

from pathlib import Path

import httpx
import pytest

from benchmark_runner.service import BenchmarkRunner
from benchmark_runner.settings import Settings
from tests.support.apps import serving
from tests.support.llama_server import llama_server

pytestmark = pytest.mark.engine
WITHIN = 0.05
TOKENS, CONTEXT, TURNS = 64, 128, 3
SUMS = ("prompt_seconds_total", "tokens_predicted_seconds_total", "tokens_predicted_total")


async def counted(url: str) -> dict[str, float]:
    """The engine's own sums over all requests so far."""
    async with httpx.AsyncClient() as http:
        lines = (await http.get(f"{url}/metrics")).text.splitlines()
    values = dict(line.split(" ", 1) for line in lines if line.startswith("llamacpp:"))
    return {name: float(values[f"llamacpp:{name}"]) for name in SUMS}


@pytest.mark.parametrize("batch", [1, 2, 4])
async def test_tokens_a_second_are_the_engines_own(tmp_path: Path, batch: int) -> None:
    """One sequence, as llama-batched-bench has it: tokens over the seconds of prompt and generation.

    Of several, the time of a token: the engine's seconds leave out waiting for another slot's prompt.
    """
    settings = {"NATS_URL": "nats://127.0.0.1:1", "NATS_WAIT_SECONDS": 0.01, "BENCHMARK_OUTPUT_DIR": tmp_path}
    ask = {
        "model_name": "smol",
        "batch_sizes": [batch],
        "context_lengths": [CONTEXT],
        "output_tokens": TOKENS,
        "iterations": 2,
        "warmup": 0,
        "background": False,
    }
    off: dict[str, float] = {}
    async with (
        llama_server(tmp_path, "-c", "2048", "-np", "4", "--metrics") as url,
        serving(BenchmarkRunner(Settings.model_validate(settings))) as client,
    ):
        client.timeout = 120
        for _turn in range(TURNS):
            before = await counted(url)
            run = await client.post("/api/v1/benchmark/run", json=ask | {"endpoint": url})
            (cell,) = run.json()["cells"]
            after = await counted(url)
            prompt, generation, tokens = (after[name] - before[name] for name in SUMS)
            speed, gap = batch * tokens / (prompt + generation), generation / tokens * 1000
            print(
                f"\nbatch {batch}: {cell['output_tokens_per_s']:.1f} tokens/s, engine {speed:.1f}; "
                f"TPOT {cell['tpot_ms']['mean']:.2f} ms, engine {gap:.2f}; {cell['note']}"
            )
            off = {"tpot": cell["tpot_ms"]["mean"] / gap - 1}
            if batch == 1:
                off["speed"] = cell["output_tokens_per_s"] / speed - 1
            if all(abs(share) <= WITHIN for share in off.values()):
                return
    pytest.fail(f"off by {off} at the third turn")
