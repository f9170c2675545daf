"""The queue as users run it, each part a process: NATS, registry, marshaler, workers; and load for it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from nats.aio.msg import Msg

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from tests.integration.work_marshaling.processes import Process
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.ports import free_port

SLOTS = 200
IN_FLIGHT = 500


@asynccontextmanager
async def program(*argv: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Running until the block ends; SIGTERM, and SIGKILL where that is not enough."""
    process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **environment})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def marshaler(server: NatsServer, **settings: str) -> AsyncIterator[Process]:
    process = Process(server.url, "bench", **settings)
    await process.start()
    try:
        yield process
    finally:
        await process.end(signal.SIGTERM)


@asynccontextmanager
async def registry(server: NatsServer) -> AsyncIterator[str]:
    """Its URL."""
    port = free_port()
    argv = ("-m", "uvicorn", "node_registry.app:app", "--port", str(port), "--log-level", "error")
    url = f"http://127.0.0.1:{port}"
    async with (
        program(sys.executable, *argv, NATS_URL=server.url, NODE_ID="bench", LOG_LEVEL="ERROR"),
        httpx.AsyncClient(base_url=url) as client,
    ):

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await waiting.until(ready, 20)
        yield url


@asynccontextmanager
async def workers(server: NatsServer, base: str, count: int, slots: int = SLOTS) -> AsyncIterator[None]:
    """That many worker processes, known to the registry at `base`."""
    if count == 0:
        yield
        return
    argv = ("-m", "tests.perf.queue_worker", server.url, f"worker-{count}", str(slots))
    async with (
        program(sys.executable, *argv),
        workers(server, base, count - 1, slots),
        httpx.AsyncClient(base_url=base) as client,
    ):

        async def known() -> bool:
            return (await client.get(f"/api/v1/nodes/worker-{count}")).status_code == 200

        await waiting.until(known, 20)
        yield


def submission(number: int) -> bytes:
    return wire_json.dump({"work_type": "nothing", "payload": {"number": number}})


async def submit_all(bus: Bus, count: int) -> float:
    """Publish so many submissions, each acknowledged by the log, so many at a time; the seconds that took."""
    client = bus.client
    inbox = client.new_inbox()
    room, acknowledged, done = asyncio.Semaphore(IN_FLIGHT), 0, asyncio.Event()

    async def receipt(msg: Msg) -> None:
        nonlocal acknowledged
        assert b'"error"' not in msg.data, msg.data
        acknowledged += 1
        room.release()
        if acknowledged == count:
            done.set()

    started = time.perf_counter()
    subscription = await client.subscribe(inbox, cb=receipt)
    for number in range(count):
        await room.acquire()
        await client.publish(subjects.WORK_SUBMIT, submission(number), reply=inbox)
    await done.wait()
    await subscription.unsubscribe()
    return time.perf_counter() - started


async def completed(client: httpx.AsyncClient) -> int:
    return int((await client.get("/api/v1/stats")).json()["completed"])


async def jobs_per_s(process: Process, bus: Bus, count: int) -> float:
    """From the first submission until the last result is kept."""
    async with httpx.AsyncClient(base_url=process.base) as client:
        before = await completed(client)
        started = time.perf_counter()
        submitting = asyncio.create_task(submit_all(bus, count))
        while await completed(client) < before + count:
            assert time.perf_counter() - started < 120
            await asyncio.sleep(0.05)
        spent = time.perf_counter() - started
    await submitting
    return count / spent
