"""llama-throughput-lab's command line, played by a stand-in that follows the same contract."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark_runner.service import BenchmarkRunner
from tests.integration.benchmark_runner.runners import RUN, first_cell, runner
from tests.support.apps import serving
from tests.support.waiting import until

LAB = Path(__file__).parent.parent.parent / "support" / "lab"
ASK: dict[str, Any] = {
    "model_name": "tiny",
    "tool": "llama-throughput-lab",
    "batch_sizes": [4, 1],
    "context_lengths": [64, 16],
    "output_tokens": 8,
    "repeats": 1,
    "iterations": 2,
}
Make = Callable[[], BenchmarkRunner]


def lab_settings(tmp_path: Path) -> dict[str, str]:
    """A stand-in for each program, and a folder of models that are none."""
    models, program = tmp_path / "models", tmp_path / "llama-server"
    models.mkdir()
    for name in ("tiny", "slow", "broken", "dies"):
        (models / f"{name}.gguf").write_bytes(b"GGUF")
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "LLAMA_THROUGHPUT_LAB_DIR": str(LAB),
        "LLAMA_SERVER_BIN": str(program),
        "NGINX_BIN": str(program),
        "VLLM_MODEL_PATH": str(models),
    }


@pytest.fixture
def with_lab(tmp_path: Path) -> Make:
    settings = lab_settings(tmp_path)
    return lambda: runner(tmp_path, **settings)


def engines() -> list[int]:
    """What the stand-in starts, and nobody may leave behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if "lab-engine" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_each_row_of_its_csv_is_a_cell(with_lab: Make) -> None:
    async with serving(with_lab()) as client:
        ask = ASK | {"model_path": "tiny.gguf", "background": False}
        run = (await client.post(RUN, json=ask)).json()
        assert (run["status"], run["error"]) == ("completed", None)
        cells = [(c["context_length"], c["batch_size"], c["output_tokens_per_s"]) for c in run["cells"]]
        assert cells == [(16, 1, 10.0), (16, 4, 40.0), (64, 1, 10.0), (64, 4, 40.0)]
        assert run["cells"][1]["requests"] == 8
        assert run["cells"][1]["ttft_ms"]["p50"] is None
        assert (run["engine"], run["node_id"]) == ("llama_cpp", "host-a")
        assert "prompt cache" in run["cells"][0]["note"]
        page = await client.get(f"/api/v1/benchmark/{run['benchmark_id']}/report")
        assert page.status_code == 200


async def test_cancel_ends_its_whole_process_group_and_keeps_its_rows(with_lab: Make) -> None:
    async with serving(with_lab()) as client:
        accepted = (await client.post(RUN, json=ASK | {"model_path": "slow.gguf"})).json()
        await first_cell(client, accepted["benchmark_id"])
        await until(lambda: bool(engines()))
        answer = (await client.delete(f"/api/v1/benchmark/{accepted['benchmark_id']}")).json()
        assert (answer["status"], answer["cells_kept"]) == ("cancelled", 1)
        await until(lambda: not engines())


@pytest.mark.parametrize(("model", "word"), [("broken", "did not become ready"), ("dies", "nginx")])
async def test_a_sweep_that_fails_says_why(with_lab: Make, model: str, word: str) -> None:
    async with serving(with_lab()) as client:
        ask = ASK | {"model_path": f"{model}.gguf", "background": False}
        run = (await client.post(RUN, json=ask)).json()
        assert run["status"] == "failed"
        assert word in run["error"]
        assert not any(cell["valid"] for cell in run["cells"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model_path": "../outside.gguf"}, 422),
        ({"model_path": "/etc/passwd"}, 422),
        ({"model_path": "/etc/x.gguf"}, 422),
        ({"model_path": None}, 422),
        ({"model_path": "none.gguf"}, 404),
        ({"context_lengths": [1 << 20]}, 422),
        ({"request_rates": [1.0]}, 422),
        ({"endpoint": "http://127.0.0.1:1"}, 422),
    ],
)
async def test_what_it_cannot_do_is_refused(with_lab: Make, change: dict[str, object], status: int) -> None:
    async with serving(with_lab()) as client:
        refused = await client.post(RUN, json=ASK | {"model_path": "tiny.gguf"} | change)
        assert refused.status_code == status, refused.text


async def test_without_a_checkout_the_way_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF")
    async with serving(runner(tmp_path, VLLM_MODEL_PATH=str(tmp_path))) as client:
        refused = await client.post(RUN, json=ASK | {"model_path": "tiny.gguf"})
        assert refused.status_code == 409
        assert "LLAMA_THROUGHPUT_LAB_DIR" in refused.json()["detail"]
