"""The same job that does nothing on other queues, taking turns with ours in one run (`make bench-rivals`).

Two worker processes and a submitter each. Ours is submitted over NATS, each submission acknowledged, and
keeps every item's state, history and result. Celery and taskiq run as they come, but for larger fetches.
"""

import asyncio
import os
import shutil
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.perf import queue_rig as rig
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
RIVALS = ROOT / ".rivals"
JOBS = Path(__file__).parent / "rivals"
TURNS = 5
COUNT = 5000

pytestmark = pytest.mark.skipif(not (RIVALS / ".ready").exists(), reason="`make bench-rivals` makes .rivals")


def redis_server() -> tuple[str, str] | None:
    """The binary and the folder of its libraries."""
    found = shutil.which("redis-server")
    if found:
        return found, ""
    own = RIVALS / "redis/usr/bin/redis-server"
    libraries = next((RIVALS / "redis/usr/lib").glob("*-linux-gnu"), None)
    return (str(own), str(libraries)) if own.exists() and libraries else None


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """Its URL. Every command is appended to a file that is synced each second, as NATS is at least."""
    server = redis_server()
    if server is None:
        pytest.skip("no redis-server")
    port = free_port()
    argv = (server[0], "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    async with rig.program(*argv, "--appendonly", "yes", quiet=True, LD_LIBRARY_PATH=server[1]):
        yield f"redis://127.0.0.1:{port}"


async def submitted(script: str, count: int, **environment: str) -> float:
    """Jobs per second, as the rival's own submitter says."""
    process = await asyncio.create_subprocess_exec(
        str(RIVALS / "bin/python"),
        script,
        str(count),
        cwd=JOBS,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 180)
    return float(output)


async def workers_up(script: str, **environment: str) -> None:
    """They are up when jobs come through; the first ones also warm them."""

    async def done() -> bool:
        return await submitted(script, 200, **environment) > 0

    await waiting.until(done, 60)


@pytest.mark.timeout(900)
async def test_jobs_per_second(nats_server: NatsServer, tmp_path: Path) -> None:
    plain_nats, kept_nats = NatsServer(tmp_path / "plain"), NatsServer(tmp_path / "kept")
    plain_nats.start()
    kept_nats.start()
    taskiq: tuple[str, ...] = (str(RIVALS / "bin/taskiq"), "worker", "taskiq_job:broker", "--workers", "2")
    taskiq += ("--max-async-tasks", "100", "--log-level", "ERROR", "--app-dir", str(JOBS))
    celery = (
        str(RIVALS / "bin/celery"),
        "--workdir",
        str(JOBS),
        "-A",
        "celery_job",
        "worker",
        "-c",
        "2",
        "-l",
        "ERROR",
    )
    figures: dict[str, list[float]] = {}
    try:
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(redis(tmp_path))
            queues = {
                "taskiq, no results kept": ("taskiq_job.py", {"RIVAL_NATS": plain_nats.url}),
                "taskiq": ("taskiq_job.py", {"RIVAL_NATS": kept_nats.url, "RIVAL_RESULTS": "1"}),
                "celery": ("celery_job.py", {"RIVAL_REDIS": url}),
            }
            for script, environment in queues.values():
                argv = celery if script == "celery_job.py" else taskiq
                await stack.enter_async_context(rig.program(*argv, quiet=True, **environment))
                await workers_up(script, **environment)
            base = await stack.enter_async_context(rig.registry(nats_server))
            process = await stack.enter_async_context(rig.marshaler(nats_server))
            await stack.enter_async_context(rig.workers(nats_server, base, 2))
            await rig.submitter(nats_server, process.base, 1000)
            for _ in range(TURNS):
                figures.setdefault("ours", []).append(await rig.submitter(nats_server, process.base, COUNT))
                for name, (script, environment) in queues.items():
                    figures.setdefault(name, []).append(await submitted(script, COUNT, **environment))
    finally:
        plain_nats.stop()
        kept_nats.stop()
    ours = figures["ours"]
    print(f"\n{COUNT} jobs, {TURNS} turns, load {os.getloadavg()[0]:.1f}")
    for name, values in figures.items():
        ratios = [mine / theirs for mine, theirs in zip(ours, values, strict=True)]
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"{name}: {low:.0f} / {middle:.0f} / {high:.0f} jobs/s; ours is {statistics.median(ratios):.2f} ×"
        )
    assert statistics.median(a / b for a, b in zip(ours, figures["taskiq"], strict=True)) >= 1
    assert statistics.median(a / b for a, b in zip(ours, figures["celery"], strict=True)) >= 1
