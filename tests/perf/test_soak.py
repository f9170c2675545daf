"""A suite at half load for a while stays as it is. SOAK_SECONDS=1800 for the long run (`make soak`)."""

import asyncio
import os
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.perf import soak_samples
from tests.perf.soak_load import CONNECTIONS, FLEET, SoakLoad, companions
from tests.support.suite import RunningSuite, wait_for

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
LOOKS = 90
LONG_SECONDS = 300.0
TOLERANCE = 0.05 if SECONDS >= LONG_SECONDS else 0.15
# What is kept by design (ended items, the log behind them) reaches its bound within the warm-up
KEPT = {
    "WORK_MAX_FINAL": str(int(max(300, SECONDS * 5))),
    "WORK_PURGE_SECONDS": "5",
    "WORK_SNAPSHOT_RECORDS": "1000",
}


@pytest.mark.timeout(SECONDS + 180)
async def test_nothing_grows_and_nothing_slows_down(tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path / "home", **KEPT)
    suite.start("--no-node")
    fleet = [sys.executable, "-m", "tests.support.living_fleet", suite.nats_url, str(FLEET), str(CONNECTIONS)]
    worker = [sys.executable, "-m", "tests.perf.queue_worker", suite.nats_url, "soak-worker", "16"]
    try:
        with companions(suite, [fleet, worker]) as beside:
            await soak(suite, {"(worker)": psutil.Process(beside[1].pid)})
    finally:
        suite.stop()


async def soak(suite: RunningSuite, more: dict[str, psutil.Process]) -> None:
    names = [path.stem for path in (suite.home / "run").glob("*.json") if path.stem != "suite"]
    processes = more | {name: psutil.Process(suite.pid_of(name)) for name in names}
    url = suite.url("node-registry") + "/api/v1/nodes/soak-worker"
    await asyncio.to_thread(wait_for, lambda: httpx.get(url).is_success)
    looks: list[soak_samples.Look] = []
    async with httpx.AsyncClient(timeout=40, trust_env=False) as client:
        load = SoakLoad(suite, client)
        await load.calibrate()
        running = asyncio.create_task(load.run(SECONDS))
        while not running.done():
            at = time.monotonic() - load.began
            looks.append(await asyncio.to_thread(soak_samples.look, at, processes, suite.home))
            await asyncio.wait({running}, timeout=SECONDS / LOOKS)
        await running
    rows = [
        *soak_samples.memory(looks, SECONDS, TOLERANCE),
        *soak_samples.latency(load.timed, SECONDS),
        *soak_samples.files(looks, SECONDS, TOLERANCE),
    ]
    print(f"\n{SECONDS:g} s at {load.per_second:.0f} items/s, {FLEET} nodes; load {os.getloadavg()[0]:.1f}")
    print(f"{len(load.timed)} answers, {len(load.failed)} failures; middle third, last third:")
    print("\n".join(map(str, rows)))
    assert load.failed == []
    assert [str(row) for row in rows if row.wrong] == []
