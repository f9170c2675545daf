"""Work marshaling with a deep queue: how soon it serves again after kill -9, what a million items weigh."""

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from tests.integration.work_marshaling.cluster import Registry, node_record
from tests.integration.work_marshaling.processes import Process, client_of, role
from tests.support import waiting
from tests.support.nats import NatsServer

PENDING = 100_000
MILLION = 1_000_000
SERVING_SECONDS = 3.0
MEMORY_MB = 1000
IN_FLIGHT = 500
PROMPT = "Tell me what a durable queue is good for, in one paragraph. " * 3


async def submit_many(bus: Bus, count: int) -> float:
    """Publish submissions of a usual size, acknowledged; seconds spent."""
    js = bus.client.jetstream(publish_async_max_pending=IN_FLIGHT * 2)
    started = time.perf_counter()
    for start in range(0, count, IN_FLIGHT):
        futures = [
            await js.publish_async(subjects.WORK_SUBMIT, _submission(start + number))
            for number in range(IN_FLIGHT)
        ]
        await asyncio.gather(*futures)
    return time.perf_counter() - started


def _submission(number: int) -> bytes:
    body = {
        "work_type": "inference",
        "model_name": "llama-3-70b",
        "priority": number % 10,
        "payload": {"prompt": PROMPT, "number": number},
    }
    return wire_json.dump(body)


async def pending(process: Process) -> int:
    async with client_of(process) as client:
        return int((await client.get("/api/v1/stats")).json()["pending"])


async def all_pending(process: Process, count: int) -> None:
    async def known() -> bool:
        return await pending(process) == count

    await waiting.until(known, 300)


async def restarted(process: Process, assigned: asyncio.Event | None = None) -> tuple[float, float, float]:
    """Seconds after kill -9 and a start until ready, leading, assigning."""
    if assigned is not None:
        assigned.clear()
    await process.end(signal.SIGKILL)
    began = time.monotonic()
    await process.start()
    ready = time.monotonic() - began

    async def leads() -> bool:
        return await role(process) == "leading"

    await waiting.until(leads, 30)
    leading = time.monotonic() - began
    spent = psutil.Process(process.pid).cpu_times()
    print(
        f"\nprocessor time until it leads: {spent.user + spent.system:.2f} s; load {os.getloadavg()[0]:.1f}"
    )
    if assigned is not None:
        await asyncio.wait_for(assigned.wait(), 30)
    return ready, leading, time.monotonic() - began


@pytest.mark.timeout(400)
async def test_a_hundred_thousand_pending_items_and_kill_9(
    nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    registry = Registry(bus)
    await registry.start()
    assigned = asyncio.Event()

    async def note(message: dict[str, object]) -> None:
        assigned.set()
        report = {key: message[key] for key in ("work_id", "node_id", "attempt")}
        await bus.publish(subjects.WORK_COMPLETED, {**report, "result": None})

    await bus.subscribe(subjects.WORK_ASSIGNED, note)
    process = Process(nats_server.url, "a", LOG_LEVEL="INFO")
    await process.start()
    try:
        empty = await restarted(process)
        spent = await submit_many(bus, PENDING)
        await all_pending(process, PENDING)
        print("\nempty queue: ready {:.2f} s, leading {:.2f} s".format(*empty))
        print(f"{PENDING} submissions over NATS in {spent:.1f} s ({PENDING / spent:.0f}/s)")
        registry.nodes["n"] = node_record("n", slots=1, models=["llama-3-70b"])
        registry.nodes["n"]["supported_models"] = ["llama-3-70b"]
        at_once = await restarted(process, assigned)
        print("kill -9 at once: ready {:.2f} s, leading {:.2f} s, assigning {:.2f} s".format(*at_once))
        await asyncio.sleep(10)  # the snapshot that follows such a burst
        later = await restarted(process, assigned)
        print(
            "kill -9 some seconds later: ready {:.2f} s, leading {:.2f} s, assigning {:.2f} s".format(*later)
        )
        assert await pending(process) >= PENDING * 0.5
    finally:
        await process.end(signal.SIGKILL)
    assert max(at_once) <= SERVING_SECONDS
    assert max(later) <= SERVING_SECONDS


@pytest.mark.timeout(900)
async def test_a_million_pending_items_fit(nats_server: NatsServer, bus: Bus) -> None:
    process = Process(nats_server.url, "a", WORK_MAX_PENDING=str(2 * MILLION))
    await process.start()
    try:
        spent = await submit_many(bus, MILLION)
        await all_pending(process, MILLION)
        rss_mb = psutil.Process(process.pid).memory_info().rss >> 20
        print(f"\n{MILLION} pending: {rss_mb} MiB; submitted at {MILLION / spent:.0f}/s")
        await asyncio.sleep(20)
        peak_mb = psutil.Process(process.pid).memory_info().rss >> 20
        print(f"after a snapshot: {peak_mb} MiB")
        await process.end(signal.SIGKILL)
        began = time.monotonic()
        await process.start()
        ready = time.monotonic() - began
        again_mb = psutil.Process(process.pid).memory_info().rss >> 20
        print(f"after kill -9: ready in {ready:.1f} s, {again_mb} MiB")
        assert await pending(process) == MILLION
    finally:
        await process.end(signal.SIGKILL)
    assert max(rss_mb, peak_mb, again_mb) <= MEMORY_MB
