"""AIPerf: its command line, played by a stand-in that follows the same contract."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmark_runner.service import BenchmarkRunner
from tests.integration.benchmark_runner.runners import RUN, runner, when
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.waiting import until

ROOT = Path(__file__).parent.parent.parent.parent
ASK: dict[str, Any] = {
    "model_name": "tiny",
    "tool": "aiperf",
    "batch_sizes": [1, 2],
    "context_lengths": [16],
    "output_tokens": 5,
    "repeats": 2,
    "background": False,
}
Make = Callable[[], BenchmarkRunner]


@pytest.fixture
def with_aiperf(tmp_path: Path) -> Make:
    program = tmp_path / "aiperf"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.aiperf "$@"\n')
    program.chmod(0o755)
    return lambda: runner(tmp_path, AIPERF_BIN=str(program))


def workers() -> list[int]:
    """What the stand-in starts, and nobody may leave behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if "aiperf-worker" in process.cmdline():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_its_records_become_cells(tmp_path: Path, with_aiperf: Make) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, serving(with_aiperf()) as client:
        run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
    assert (run["status"], run["error"]) == ("completed", None)
    assert run["environment"]["generator"] == "AIPerf 0.13.0-stand-in"
    assert [(c["batch_size"], c["valid"], c["requests"], c["note"]) for c in run["cells"]] == [
        (1, True, 2, None),
        (2, True, 4, None),
    ]
    for cell in run["cells"]:
        assert cell["ttft_ms"]["p50"] == pytest.approx(50)
        assert cell["itl_ms"]["p99"] == pytest.approx(10)
        assert cell["tpot_ms"]["p50"] == pytest.approx(10)
        assert cell["e2e_ms"]["p50"] == pytest.approx(90)
        assert cell["send_lateness_ms"]["p50"] == pytest.approx(2)
        assert cell["prompt_tokens"] == [16, 16]
        assert cell["output_tokens_per_s"] == pytest.approx(cell["batch_size"] * 5 / 0.093, rel=1e-4)
        assert cell["intervals"]["ttft_ms"]["mean"] == pytest.approx(50)
        assert cell["generator_cpu_us_per_chunk"] is None


async def test_cancel_ends_its_whole_group_and_keeps_its_records(with_aiperf: Make) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, serving(with_aiperf()) as client:
        ask = ASK | {"endpoint": server.url, "model_name": "slow", "background": True}
        accepted = (await client.post(RUN, json=ask)).json()
        await when(client, accepted["benchmark_id"], lambda r: (r["progress"]["requests_done"] or 0) > 0)
        await until(lambda: bool(workers()))
        answer = (await client.delete(f"/api/v1/benchmark/{accepted['benchmark_id']}")).json()
        assert (answer["status"], answer["cells_kept"]) == ("cancelled", 1)
        (cell,) = (await client.get(f"/api/v1/benchmark/{accepted['benchmark_id']}")).json()["cells"]
        assert (cell["partial"], cell["valid"], cell["requests"]) == (True, False, 1)
        await until(lambda: not workers())


async def test_what_is_no_record_is_left_out_and_what_failed_is_an_error(with_aiperf: Make) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, serving(with_aiperf()) as client:
        run = (await client.post(RUN, json=ASK | {"endpoint": server.url, "model_name": "odd"})).json()
        assert run["status"] == "completed"
        assert [(c["requests"], c["errors"], c["valid"]) for c in run["cells"]] == [
            (4, 2, False),
            (6, 2, False),
        ]
        assert run["cells"][0]["error_kinds"] == {"http-503": 2}
        broken = (await client.post(RUN, json=ASK | {"endpoint": server.url, "model_name": "broken"})).json()
        assert broken["status"] == "failed"
        assert "inference request(s) failed" in broken["error"]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"request_rates": [1.0]}, 422, "builtin"),
        ({"find_max_rate": True}, 422, "builtin"),
        ({"shared_prefix_tokens": 4}, 422, "builtin"),
        ({"model_name": "a,b"}, 422, "comma"),
    ],
)
async def test_what_it_cannot_do_is_refused(
    with_aiperf: Make, change: dict[str, object], status: int, words: str
) -> None:
    async with serving(with_aiperf()) as client:
        refused = await client.post(RUN, json=ASK | {"endpoint": "http://127.0.0.1:1"} | change)
        assert refused.status_code == status
        assert words in refused.json()["detail"]


async def test_where_it_is_not_installed_the_way_out_is_named(tmp_path: Path) -> None:
    async with serving(runner(tmp_path, AIPERF_BIN="/nowhere/aiperf")) as client:
        refused = await client.post(RUN, json=ASK | {"endpoint": "http://127.0.0.1:1"})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:compute:error:no-aiperf")
        assert "AIPERF_BIN" in refused.json()["detail"]
