"""Following a run, ending it, and what a restart leaves."""

import asyncio
import json
from pathlib import Path
from typing import Any

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.schemas.benchmark import Benchmark
from tests.integration.benchmark_runner.runners import RUN, ended, runner, when
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until

ASK: dict[str, Any] = {"model_name": "m", "context_lengths": [8], "output_tokens": 5, "repeats": 1}


async def test_a_run_is_followed_to_its_end(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await bus.subscribe(subjects.BENCHMARK_PROGRESS, heard.put)
    service = runner(tmp_path, nats_server.url)
    async with scripted(Script(ttft=0.02, gap=0.01)) as server, serving(service) as client:
        ask = ASK | {"endpoint": server.url, "batch_sizes": [1, 2], "iterations": 6}
        run = (await client.post(RUN, json=ask)).json()
        path = f"/api/v1/benchmark/{run['benchmark_id']}/events"
        answer = await client.get(path)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [_event(block) for block in answer.text.split("\n\n") if block.startswith("event")]
        assert [name for name, _ in events].count("cell") == 2
        name, last = events[-1]
        assert (name, last["status"], last["progress"]["cells_done"]) == ("ended", "completed", 2)
        percents = [e["progress"]["percent"] for _, e in events]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        assert any(e["progress"]["phase"] == "measuring" for _, e in events)
        again = await client.get(path)  # of a run that is over: its end, and that is all
        assert again.text.count("event: ") == 1
        assert (await client.get("/api/v1/benchmark/bench-none/events")).status_code == 404
        over_nats = await asyncio.wait_for(heard.get(), 5)
        while over_nats["status"] != "completed":
            over_nats = await asyncio.wait_for(heard.get(), 5)
        assert over_nats["benchmark_id"] == run["benchmark_id"]


def _event(block: str) -> tuple[str, dict[str, Any]]:
    first, second = block.split("\n")
    return first.removeprefix("event: "), wire_json.parse_object(second.removeprefix("data: ").encode())


async def test_cancel_keeps_what_the_cell_under_way_had_and_marks_it(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.01, gap=0.01)) as server, serving(runner(tmp_path)) as client:
        ask = ASK | {"endpoint": server.url, "iterations": 100, "output_tokens": 20}
        run = (await client.post(RUN, json=ask)).json()
        path = f"/api/v1/benchmark/{run['benchmark_id']}"
        await when(client, run["benchmark_id"], lambda r: (r["progress"].get("requests_done") or 0) >= 2)
        answer = (await client.delete(path)).json()
        assert (answer["status"], answer["cells_kept"]) == ("cancelled", 1)
        (cell,) = (await client.get(path)).json()["cells"]
        assert (cell["partial"], cell["valid"]) == (True, False)
        assert 2 <= cell["requests"] < 100
        assert cell["output_tokens_per_s"] > 0
        assert "cut off" in cell["note"]


async def test_queued_runs_outlive_a_restart(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.01, gap=0.01)) as server:
        ask = ASK | {"endpoint": server.url}
        async with serving(runner(tmp_path)) as client:
            first = (await client.post(RUN, json=ask | {"iterations": 100})).json()
            second = (await client.post(RUN, json=ask)).json()
            assert second["status"] == "queued"
            await when(
                client, first["benchmark_id"], lambda r: (r["progress"].get("requests_done") or 0) >= 2
            )
        async with serving(runner(tmp_path)) as client:
            assert (await ended(client, second["benchmark_id"]))["status"] == "completed"
            interrupted = await ended(client, first["benchmark_id"])
            assert interrupted["status"] == "failed"
            assert "restarted" in interrupted["error"]
            assert [cell["partial"] for cell in interrupted["cells"]] == [True]


async def test_only_so_many_ended_runs_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for number in range(5):
        body = {
            "benchmark_id": f"bench-{number}",
            "status": "completed",
            "model_name": "m",
            "progress": {"cells_done": 0, "cells_total": 0},
            "created_at": f"2026-11-01T00:00:0{number}Z",
        }
        (folder / f"bench-{number}.json").write_bytes(
            Benchmark.model_validate(body).model_dump_json().encode()
        )
    service = runner(tmp_path, BENCHMARK_KEEP_RUNS=2)
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, serving(service) as client:
        names = [run["benchmark_id"] for run in (await client.get("/api/v1/benchmarks")).json()["benchmarks"]]
        assert names == ["bench-4", "bench-3"]
        await client.post(RUN, json=ASK | {"endpoint": server.url, "background": False})
        await until(lambda: len(list(folder.iterdir())) == 2)
        left = sorted(path.name for path in folder.iterdir())
        assert "bench-4.json" in left
        assert all(json.loads((folder / name).read_text())["status"] == "completed" for name in left)
