"""What looking at the memory of eight GPUs costs, and how soon the states are told.

Run by `make bench`; prints its figures and holds them against the targets. NVML is the compiled scenario
library: the time that real drivers take is not in it, that of nvidia-ml-py and of everything of ours is.
"""

import asyncio
import statistics
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from tests.integration.gpu_orchestrator.played import PlayedHost, engine, played_host, using
from tests.support.nvml import build, scenarios

STATES_MS = 5
POLLER_SHARE = 0.02
SECONDS = 20
ANSWERS = 300
ENGINES = 8


async def test_eight_gpus_with_bound_engines(tmp_path: Path) -> None:
    """Each GPU has a bound engine and three strangers; the poll is the default one a second."""
    machine = scenarios.h100_x8()
    with ExitStack() as stack:
        engines = [stack.enter_context(engine()) for _ in range(ENGINES)]
        for index, process in enumerate(engines):
            strangers = {20_000 + 10 * index + n: 100 for n in range(3)}
            machine = using(machine, index, {process.pid: 20_000, **strangers})
        async with played_host(
            build(tmp_path / "nvml"), machine, tmp_path, {"GPU_POLL_SECONDS": "1"}
        ) as host:
            await _bind(host, engines)
            share = await _share(host.pid)
            times = await _answers(host)
            assert all(gpu["foreign_mb"] == 900 for gpu in (await host.states())["gpus"])
    print(
        f"\nlooking at 8 GPUs once a second, {len(psutil.pids())} processes on the host:"
        f" {share:.2%} of a core (the whole service);"
        f" states: median {statistics.median(times):.2f} ms, p99 {times[int(0.99 * ANSWERS)]:.2f} ms"
    )
    assert share <= POLLER_SHARE
    assert statistics.median(times) <= STATES_MS


async def _bind(host: PlayedHost, engines: list[subprocess.Popen[str]]) -> None:
    for index, process in enumerate(engines):
        assert (await host.bind(await host.reserved(30_000, index), pid=process.pid)).status_code == 200


async def _share(pid: int) -> float:
    """Processor seconds a second of that process while nobody asks."""
    process = psutil.Process(pid)
    await asyncio.sleep(2)
    before, started = process.cpu_times(), time.perf_counter()
    await asyncio.sleep(SECONDS)
    after, ended = process.cpu_times(), time.perf_counter()
    return (after.user + after.system - before.user - before.system) / (ended - started)


async def _answers(host: PlayedHost) -> list[float]:
    times = []
    for _ in range(ANSWERS):
        started = time.perf_counter()
        await host.states()
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)
