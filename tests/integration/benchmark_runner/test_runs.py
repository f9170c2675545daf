"""Runs against a scripted server: true numbers, and every way a server can misbehave."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.integration.benchmark_runner.runners import RUN, counting, ended, first_cell, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.ports import free_port


async def test_the_numbers_are_the_servers(tmp_path: Path) -> None:
    """TTFT 80 ms, gap 20 ms, 20 tokens: E2E 460 ms, TPOT 20 ms, 4 clients 173 tokens/s."""
    async with scripted(Script(ttft=0.08, gap=0.02)) as server, serving(runner(tmp_path)) as client:
        ask = {
            "model_name": "m",
            "endpoint": server.url,
            "batch_sizes": [4],
            "context_lengths": [32],
            "output_tokens": 20,
            "num_iterations": 2,
            "background": False,
        }
        (cell,) = (await counting(client, ask))["cells"]
        assert (cell["errors"], cell["requests"]) == (0, 24)
        assert cell["ttft_ms"]["p50"] == pytest.approx(80, rel=0.15)
        assert cell["itl_ms"]["p50"] == pytest.approx(20, rel=0.1)
        assert cell["tpot_ms"]["mean"] == pytest.approx(20, rel=0.1)
        assert cell["e2e_ms"]["p50"] == pytest.approx(460, rel=0.1)
        assert cell["output_tokens_per_s"] == pytest.approx(4 * 20 / 0.46, rel=0.1)
        assert cell["total_tokens_per_s"] == pytest.approx(4 * 52 / 0.46, rel=0.1)
        assert cell["goodput_per_s"] == cell["requests_per_s"]
        assert {len(prompt) for prompt in server.prompts if isinstance(prompt, list)} == {32}


async def test_prompts_are_calibrated_where_nobody_counts_tokens(tmp_path: Path) -> None:
    """This server makes two tokens of a word and refuses `ignore_eos`."""
    script = Script(ttft=0.001, gap=0.001, tokenize=False, strict=True)
    async with scripted(script) as server, serving(runner(tmp_path)) as client:
        ask = {"model_name": "m", "endpoint": server.url, "context_lengths": [64], "output_tokens": 4}
        run = (await client.post(RUN, json=ask | {"background": False, "iterations": 3})).json()
        assert run["cells"][0]["note"] is None
        measured = server.prompts[-3:]
        assert [len(prompt.split()) for prompt in measured] == [32] * 3
        assert len(set(measured)) == 3


@pytest.mark.parametrize(
    ("manner", "kind"),
    [
        ("hangs", "timeout"),
        ("cut", "broken"),
        ("garbage", "garbage"),
        ("endless", "overrun"),
        ("refuses", "http-400"),
    ],
)
async def test_a_server_that_misbehaves_fails_the_run_and_never_hangs_it(
    tmp_path: Path, manner: str, kind: str
) -> None:
    service = runner(tmp_path, BENCHMARK_IDLE_TIMEOUT_SECONDS=0.3, BENCHMARK_REQUEST_TIMEOUT_SECONDS=5)
    script = Script(ttft=0.001, gap=0.0001, manner=manner)
    async with scripted(script) as server, serving(service) as client:
        ask = {"model_name": "m", "endpoint": server.url, "context_lengths": [8], "output_tokens": 8}
        run = (await client.post(RUN, json=ask | {"background": False})).json()
        assert run["status"] == "failed"
        assert "no request succeeded" in run["error"]
        (cell,) = run["cells"]
        assert cell["valid"] is False
        assert cell["error_kinds"] == {kind: cell["errors"]}


async def test_without_usage_tokens_are_unknown_not_guessed(tmp_path: Path) -> None:
    script = Script(ttft=0.001, gap=0.001, manner="no-usage")
    async with scripted(script) as server, serving(runner(tmp_path)) as client:
        ask = {"model_name": "m", "endpoint": server.url, "context_lengths": [8], "output_tokens": 8}
        run = (await client.post(RUN, json=ask | {"background": False})).json()
        (cell,) = run["cells"]
        assert (cell["valid"], cell["output_tokens_per_s"]) == (False, 0)
        assert "usage" in cell["note"]


async def test_nobody_listens_there(tmp_path: Path) -> None:
    async with serving(runner(tmp_path)) as client:
        ask = {
            "model_name": "m",
            "endpoint": f"http://localhost:{free_port()}",
            "batch_sizes": [1, 2, 3],
            "background": False,
        }
        run = (await client.post(RUN, json=ask)).json()
        assert (run["status"], len(run["cells"])) == ("failed", 2)
        assert "does not answer" in run["error"]


async def test_cancel_keeps_what_is_done_and_the_next_run_goes_on(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.01, gap=0.01)) as server, serving(runner(tmp_path)) as client:
        ask = {"model_name": "m", "endpoint": server.url, "context_lengths": [8], "output_tokens": 5}
        long = ask | {"batch_sizes": [1, 2], "iterations": 12}
        first = (await client.post(RUN, json=long)).json()
        second = (await client.post(RUN, json=ask)).json()
        assert second["status"] == "queued"
        await first_cell(client, first["benchmark_id"])
        assert (await client.get("/api/v1/benchmarks?status=running")).json()["count"] == 1
        cancelled = (await client.delete(f"/api/v1/benchmark/{first['benchmark_id']}")).json()
        assert (cancelled["status"], cancelled["cells_kept"]) == ("cancelled", 1)
        assert (await ended(client, second["benchmark_id"]))["status"] == "completed"
        again = await client.delete(f"/api/v1/benchmark/{second['benchmark_id']}")
        assert again.json()["status"] == "completed"
        listed = (await client.get("/api/v1/benchmarks")).json()["benchmarks"]
        assert [r["status"] for r in listed] == ["completed", "cancelled"]


async def test_results_outlive_the_runner_and_interrupted_runs_say_so(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.005, gap=0.005)) as server:
        ask = {"model_name": "m", "endpoint": server.url, "context_lengths": [8], "output_tokens": 5}
        async with serving(runner(tmp_path)) as client:
            whole = (await client.post(RUN, json=ask | {"background": False})).json()
            cut = (await client.post(RUN, json=ask | {"batch_sizes": [1, 2], "iterations": 20})).json()
            await first_cell(client, cut["benchmark_id"])
        path = next(p for p in (tmp_path / "results").glob("*.json") if whole["benchmark_id"] not in p.name)
        kept = json.loads(path.read_text())
        assert (kept["status"], len(kept["cells"])) == ("failed", 1)
        path.write_text(json.dumps(kept | {"status": "running"}))  # as kill -9 would leave it
        (tmp_path / "results" / "bad.json").write_text("{")
        async with serving(runner(tmp_path)) as client:
            runs = (await client.get("/api/v1/benchmarks")).json()["benchmarks"]
            assert [(r["status"], len(r["cells"])) for r in runs] == [("failed", 1), ("completed", 1)]
            assert "restarted" in runs[0]["error"]
            assert (await client.get("/healthz")).status_code == 200


async def test_report_and_export(tmp_path: Path) -> None:
    async with scripted(Script(ttft=0.001, gap=0.001)) as server, serving(runner(tmp_path)) as client:
        name = "<script>alert(1)</script>"
        ask = {"model_name": name, "endpoint": server.url, "context_lengths": [8], "background": False}
        run = (await client.post(RUN, json=ask)).json()
        path = f"/api/v1/benchmark/{run['benchmark_id']}"
        page = await client.get(f"{path}/report")
        assert page.headers["content-type"].startswith("text/html")
        assert "<script" not in page.text
        assert "batch 1, context 8" in page.text
        rows = list(csv.DictReader(io.StringIO((await client.get(f"{path}/export?format=csv")).text)))
        assert rows[0]["output_tokens_per_s"] == str(run["cells"][0]["output_tokens_per_s"])
        assert (await client.get(f"{path}/export")).json() == run
        assert (await client.get(f"{path}/export?format=exe")).status_code == 422


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"endpoint": "http://example.com/v1"}, 403),
        ({"endpoint": "http://169.254.169.254/latest"}, 403),
        ({"endpoint": "http://u:p@127.0.0.1:1"}, 422),
        ({"endpoint": "http://127.0.0.1:99999"}, 422),
        ({"endpoint": "file:///etc/passwd"}, 422),
        ({"batch_sizes": [0]}, 422),
        ({"batch_sizes": [1 << 40]}, 422),
        ({"context_lengths": []}, 422),
        ({"seed": 1 << 80}, 422),
        ({"endpoint": None}, 503),
    ],
)
async def test_senseless_or_forbidden(tmp_path: Path, change: dict[str, object], status: int) -> None:
    async with serving(runner(tmp_path)) as client:
        refused = await client.post(RUN, json={"model_name": "m", "endpoint": "http://127.0.0.1:1"} | change)
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await client.get("/api/v1/benchmarks")).json()["count"] == 0


async def test_unknown_ids(tmp_path: Path) -> None:
    async with serving(runner(tmp_path)) as client:
        for path in ("bench-1", "bench-1/report", "bench-1/export"):
            assert (await client.get(f"/api/v1/benchmark/{path}")).status_code == 404
        assert (await client.delete("/api/v1/benchmark/bench-1")).status_code == 404
        assert (await client.get("/api/v1/benchmark/..%2Fx")).status_code in (404, 422)
