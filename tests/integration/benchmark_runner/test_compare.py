"""Two runs compared over HTTP, and the exit codes of `compute bench` and `compute compare`."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from benchmark_runner.service import BenchmarkRunner
from tests.integration.benchmark_runner.runners import RUN, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.live import listening

COMPARE = "/api/v1/benchmark/compare"
ASK: dict[str, Any] = {
    "model_name": "m",
    "context_lengths": [8],
    "output_tokens": 10,
    "repeats": 2,
    "background": False,
}


async def test_a_slower_server_is_a_regression(tmp_path: Path) -> None:
    script = Script(ttft=0.02, gap=0.005)
    async with scripted(script) as server, serving(runner(tmp_path)) as client:
        old = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
        script.gap = 0.02
        new = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
        ask = {"baseline": old["benchmark_id"], "candidate": new["benchmark_id"]}
        found = (await client.post(COMPARE, json=ask)).json()
        assert (found["regressed"], found["complete"]) == (True, True)
        verdicts = {change["metric"]: change["verdict"] for change in found["changes"]}
        assert verdicts["tpot_ms_p50"] == verdicts["output_tokens_per_s"] == "regression"
        back = (await client.post(COMPARE, json={"baseline": new, "candidate": old["benchmark_id"]})).json()
        assert not back["regressed"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"baseline": "bench-none", "candidate": "bench-none"}, 404),
        ({"baseline": "../x", "candidate": "y"}, 422),
        ({"baseline": {"cells": [{"batch_size": "x"}]}, "candidate": "y"}, 422),
        ({}, 422),
    ],
)
async def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, body: dict[str, object], status: int
) -> None:
    async with serving(runner(tmp_path)) as client:
        assert (await client.post(COMPARE, json=body)).status_code == status


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[BenchmarkRunner, str]]:
    made = runner(tmp_path)
    async with listening(made) as url:
        yield made, url


async def compute(url: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "compute_cli.main",
        *arguments,
        env={"PATH": "/usr/bin:/bin", "BENCHMARK_RUNNER_URL": url, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_exit_code_tells_a_regression(tmp_path: Path, service: tuple[BenchmarkRunner, str]) -> None:
    runner_service, url = service
    folder = tmp_path / "results"
    folder.mkdir(exist_ok=True)
    script = Script(ttft=0.02, gap=0.005)
    async with scripted(script) as server, serving(runner(tmp_path / "other")) as client:
        run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
    slower = json.loads(json.dumps(run))
    for cell in slower["cells"]:
        cell["output_tokens_per_s"] *= 0.9
    files = {}
    for name, content in (("good", run), ("slow", slower), ("none", run | {"cells": []}), ("bad", {"x": 1})):
        files[name] = str(tmp_path / f"{name}.json")
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    codes = {}
    for old, new in (("good", "good"), ("good", "slow"), ("slow", "good"), ("good", "none"), ("bad", "good")):
        codes[old, new], out, err = await compute(url, "compare", files[old], files[new])
        assert "Traceback" not in err, err
        if (old, new) == ("good", "slow"):
            assert "regression" in out
            assert "-10.0%" in out
    assert codes == {
        ("good", "good"): 0,
        ("good", "slow"): 3,
        ("slow", "good"): 0,
        ("good", "none"): 4,
        ("bad", "good"): 1,
    }
    code, out, _err = await compute(
        url, "compare", files["good"], files["slow"], "--throughput", "20", "--json"
    )
    assert (code, json.loads(out)["regressed"]) == (0, False)
    assert not runner_service.records.runs
