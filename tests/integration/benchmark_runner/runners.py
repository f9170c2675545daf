"""A benchmark runner of the test's own, and waiting for what it measures."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmark_runner.service import BenchmarkRunner
from benchmark_runner.settings import Settings

RUN = "/api/v1/benchmark/run"


def runner(folder: Path, nats_url: str = "nats://127.0.0.1:1", **settings: object) -> BenchmarkRunner:
    """Without NATS unless an address is given."""
    values: dict[str, object] = {
        "NATS_URL": nats_url,
        "NODE_ID": "host-a",
        "NATS_WAIT_SECONDS": 0.01 if nats_url.endswith(":1") else 5,
        "BENCHMARK_OUTPUT_DIR": folder / "results",
    }
    return BenchmarkRunner(Settings.model_validate(values | settings))


async def counting(client: httpx.AsyncClient, ask: dict[str, Any]) -> dict[str, Any]:
    """A run of valid cells: again, at most five times, while this machine was too busy to send in time."""
    for _ in range(5):
        run: dict[str, Any] = (await client.post(RUN, json=ask)).json()
        assert run["status"] == "completed", run["error"]
        if all(cell["valid"] for cell in run["cells"]):
            return run
    raise AssertionError([cell["note"] for cell in run["cells"]])


async def ended(client: httpx.AsyncClient, benchmark_id: str) -> dict[str, Any]:
    """The run when it is over; fails when it is not in time."""
    return await when(client, benchmark_id, lambda run: run["status"] not in ("queued", "running"))


async def first_cell(client: httpx.AsyncClient, benchmark_id: str) -> dict[str, Any]:
    """The run as soon as it has a cell."""
    return await when(client, benchmark_id, lambda run: bool(run["cells"]))


async def when(
    client: httpx.AsyncClient, benchmark_id: str, condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The run as soon as `condition` holds for it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run: dict[str, Any] = (await client.get(f"/api/v1/benchmark/{benchmark_id}")).json()
        if condition(run):
            return run
        await asyncio.sleep(0.02)
    raise AssertionError(f"{benchmark_id} is still {run['status']}")
