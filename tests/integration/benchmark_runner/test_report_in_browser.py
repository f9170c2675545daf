"""The report in a real browser, as wide as a desk's screen and as narrow as a phone."""

import asyncio
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark_runner.report import as_html
from compute_common.schemas.benchmark import Benchmark
from tests.integration.benchmark_runner.runners import runner
from tests.support.apps import serving

# Beside a copy of the report, so that it may look into the frame: the service lets nobody frame its pages.
PROBE = """<!doctype html><body style="margin:0">
<iframe id="f" src="report.html" style="width:{width}px;height:800px;border:0"></iframe>
<pre id="out">waiting</pre><script>
const frame = document.getElementById("f");
frame.onload = () => {{
  const page = frame.contentDocument, all = (s) => [...page.querySelectorAll(s)];
  const boxes = all("svg").map((s) => s.getBoundingClientRect());
  document.getElementById("out").textContent = JSON.stringify({{
    title: page.title, wide: page.documentElement.scrollWidth, given: frame.clientWidth,
    charts: boxes.length, narrowest: Math.min(...boxes.map((b) => b.width)),
    right: Math.max(...boxes.map((b) => b.right)), points: all("svg circle").length,
    rows: all("main > .scroll:first-of-type tr").length, scripts: all("script").length,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name),
    smallest: Math.min(...all("svg text").map((t) => Math.min(t.getBoundingClientRect().height,
                                                              t.getBoundingClientRect().width + 9))),
    text: parseFloat(getComputedStyle(page.body).fontSize), broken: all("svg [d*=NaN], svg [cx=NaN]").length,
  }});
}};
</script></body>"""


def run_of(cells: int = 12) -> Benchmark:
    def percentiles(value: float) -> dict[str, float]:
        return {"mean": value, "p50": value, "p90": value, "p95": value, "p99": 2 * value}

    made = [
        {
            "batch_size": batch,
            "context_length": context,
            "output_tokens": 64,
            "valid": True,
            "errors": 0,
            "output_tokens_per_s": 20.0 * batch / (1 + context / 4096),
            "ttft_ms": percentiles(context / 10 + batch),
            "tpot_ms": percentiles(10.0 + batch),
            "e2e_ms": percentiles(700.0),
        }
        for batch in (1, 4, 16, 64)
        for context in (128, 1024, 8192)
    ][:cells]
    return Benchmark.model_validate(
        {
            "benchmark_id": "bench-shown",
            "status": "completed",
            "model_name": "org/A-Model-With-A-Rather-Long-Name-That-Has-Nowhere-To-Break-Instruct",
            "progress": {"cells_done": len(made), "cells_total": len(made)},
            "cells": made,
            "environment": {"engine_arguments": "llama-server " + "--flag value " * 30},
            "created_at": "2026-11-01T00:00:00Z",
        }
    )


async def shown(page: Path, width: int, browser: str, folder: Path) -> dict[str, Any]:
    argv = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / str(width)}"]
    argv += ["--virtual-time-budget=5000", "--allow-file-access-from-files"]
    argv += [f"--window-size={max(width, 500)},900", "--dump-dom", page.as_uri()]
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await asyncio.wait_for(process.communicate(), 90)
    found = re.search(r'<pre id="out">(.*?)</pre>', out.decode(), re.DOTALL)
    assert found is not None
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


@pytest.mark.slow
async def test_readable_on_a_desk_and_on_a_phone(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here: `make test-deps` installs it")
    run = run_of()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench-shown.json").write_bytes(run.model_dump_json().encode())
    async with serving(runner(tmp_path)) as client:
        report = await client.get("/api/v1/benchmark/bench-shown/report")
    assert report.status_code == 200
    (tmp_path / "report.html").write_bytes(report.content)
    for width in (1200, 360):
        (tmp_path / "probe.html").write_text(PROBE.format(width=width))
        seen = await shown(tmp_path / "probe.html", width, browser, tmp_path)
        assert seen["title"].startswith("org/A-Model")
        assert seen["wide"] <= seen["given"] == width, "the page must not scroll sideways"
        assert seen["right"] <= width
        assert (seen["charts"], seen["points"], seen["rows"]) == (6, 72, 13)
        assert seen["narrowest"] >= 300
        assert seen["text"] >= 16
        assert seen["smallest"] >= 11
        assert (seen["scripts"], seen["loaded"], seen["broken"]) == (0, [], 0)


async def test_one_cell_and_no_cell_make_a_page_too() -> None:
    for cells in (0, 1):
        page = as_html(run_of(cells))
        assert page.count("<circle") == 6 * cells
        assert "NaN" not in page
