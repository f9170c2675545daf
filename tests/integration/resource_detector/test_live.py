"""The service in its own process on a played machine: changes are announced, a hung driver does no harm."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus, Message
from tests.support.hearing import messages_on
from tests.support.nats import NatsServer
from tests.support.nvml import Played, Scenario, scenarios
from tests.support.ports import free_port
from tests.support.waiting import until
from tests.unit.resource_detector.trees import MIB, cgroup_v2, host_tree, write

ANNOUNCED_WITHIN = 5.0


@asynccontextmanager
async def running(environment: dict[str, str], nats_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """`uvicorn resource_detector.app:app` with the settings' defaults."""
    port = free_port()
    command = ["uvicorn", "resource_detector.app:app", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(  # noqa: ASYNC220 - started once, before anything waits
        [sys.executable, "-m", *command, "--log-level", "error"],
        env={
            **os.environ,
            "NATS_URL": nats_url,
            "NODE_ID": "box.1",
            "NATS_WAIT_SECONDS": "0.1",
            **environment,
        },
        stdout=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
            await until(lambda: _alive(client), 20)
            yield client
            process.terminate()
            assert await asyncio.to_thread(process.wait, 10) is not None
    finally:
        process.kill()
        process.wait()


async def _alive(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/livez")).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
async def announced(bus: Bus) -> list[Message]:
    return await messages_on(bus, subjects.NODES_ANNOUNCE)


async def seconds_until(change: Callable[[], None], heard: Callable[[], bool]) -> float:
    """From the change to the announcement of it."""
    started = time.monotonic()
    change()
    await until(heard, ANNOUNCED_WITHIN)
    return time.monotonic() - started


@pytest.mark.slow
async def test_hot_changes_are_announced_within_five_seconds(
    nvml_library: Path, nats_server: NatsServer, tmp_path: Path, announced: list[Message]
) -> None:
    roots = host_tree(tmp_path / "root")
    cgroup_v2(roots, "/a", {"a/memory.max": f"{8000 * MIB}"})
    played = Played(nvml_library, scenarios.h100_x8(), tmp_path)
    environment = {
        **played.environment,
        "COMPUTE_PROC_ROOT": str(roots.proc),
        "COMPUTE_SYS_ROOT": str(roots.sys),
    }
    async with running(environment, nats_server.url) as client:
        await until(lambda: bool(announced), 15)
        assert (len(announced[-1]["gpus"]), announced[-1]["memory"]["total_mb"]) == (8, 8000)

        fell_off = await seconds_until(
            lambda: played.change(scenarios.lost(5)), lambda: len(announced[-1]["gpus"]) == 7
        )
        assert "GPU 5 is lost" in (await client.get("/api/v1/detect")).json()["warnings"][0]
        limited = await seconds_until(
            lambda: write(roots.sys, {"fs/cgroup/a/memory.max": f"{2000 * MIB}"}),
            lambda: announced[-1]["memory"]["total_mb"] == 2000,
        )
        await seconds_until(lambda: played.change(scenarios.mig()), lambda: len(announced[-1]["gpus"]) == 2)
        assert [part["vram_mb"] for part in announced[-1]["gpus"][0]["slices"]] == [40448, 20096, 9856]
        assert announced[-1]["gpus"][0]["schedulable"] is False
        print(f"\nannounced after: GPU lost {fell_off:.1f} s, memory limit {limited:.1f} s")


async def test_busy_cards_are_not_announced_again(
    nvml_library: Path, nats_server: NatsServer, tmp_path: Path, announced: list[Message]
) -> None:
    """Used memory, power and temperature travel with heartbeats, not as a changed node."""
    played = Played(nvml_library, scenarios.mig(), tmp_path)
    environment = {**played.environment, "DETECT_SECONDS": "0.1"}
    async with running(environment, nats_server.url) as client:
        await until(lambda: bool(announced), 15)
        heard = len(announced)
        played.change(scenarios.busy(scenarios.mig(), 1, 4711, 30_000))

        async def seen() -> bool:
            body = (await client.get("/api/v1/detect")).json()
            return bool(body["gpus"][1]["vram_used_mb"] == 30_600)

        await until(seen)
        await asyncio.sleep(0.3)  # two more looks: time for what must not come
        assert len(announced) == heard


@pytest.mark.slow
async def test_a_driver_that_hangs_does_not_hang_the_service(nvml_library: Path, tmp_path: Path) -> None:
    played = Played(nvml_library, Scenario(delay_ms=60_000), tmp_path)
    async with running(played.environment, "nats://127.0.0.1:1") as client:
        health = (await client.get("/healthz")).json()
        assert health["checks"]["detection"]["ok"] is False
        assert "hung GPU driver" in health["checks"]["detection"]["detail"]
        refused = await client.get("/api/v1/detect")
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:compute:error:detection-stalled"


async def test_slow_readings_do_not_block_the_loop(nvml_library: Path, tmp_path: Path) -> None:
    """Every call of NVML takes 20 ms: a detection of seconds, while the service answers at once."""
    slow = Scenario(scenarios.unlike_pair().gpus, delay_ms=20)
    played = Played(nvml_library, slow, tmp_path)
    async with running(played.environment, "nats://127.0.0.1:1") as client:
        detecting = asyncio.create_task(_detect_seconds(client))
        waits: list[float] = []
        while not detecting.done():
            asked: Awaitable[httpx.Response] = client.get("/livez")
            started = time.perf_counter()
            await asked
            waits.append(time.perf_counter() - started)
        assert detecting.result() > 0.5
        assert len(waits) > 10
        assert max(waits) < detecting.result() / 2, "a blocked loop would wait for all of it"


async def _detect_seconds(client: httpx.AsyncClient) -> float:
    answer = (await client.post("/api/v1/detect/refresh")).json()
    return float(answer["detect_seconds"])
