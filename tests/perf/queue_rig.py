"""The queue as users run it, each part a process: NATS, registry, marshaler, workers; and load for it.

As a program, `python -m tests.perf.queue_rig NATS_URL MARSHALER_URL COUNT`, it is the submitter.
"""

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
from compute_common.bus_auth import NatsSettings
from compute_common.shell.logging import configure_logging
from tests.integration.work_marshaling.processes import Process
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.ports import free_port

SLOTS = 200
IN_FLIGHT = 500


@asynccontextmanager
async def program(
    *argv: str, quiet: bool = False, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Running until the block ends; SIGTERM, and SIGKILL where that is not enough."""
    output = asyncio.subprocess.DEVNULL if quiet else None
    process = await asyncio.create_subprocess_exec(
        *argv, env={**os.environ, **environment}, stdout=output, stderr=output
    )
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


def submission(number: int, work_type: str) -> bytes:
    return wire_json.dump({"work_type": work_type, "payload": {"number": number}})


async def submit_all(bus: Bus, count: int, work_type: str = "nothing") -> float:
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
        await client.publish(subjects.WORK_SUBMIT, submission(number, work_type), reply=inbox)
    await done.wait()
    await subscription.unsubscribe()
    return time.perf_counter() - started


async def completed(client: httpx.AsyncClient) -> int:
    return int((await client.get("/api/v1/stats")).json()["completed"])


async def jobs_per_s(base: str, bus: Bus, count: int) -> float:
    """From the first submission until the last result is kept by the marshaler at `base`."""
    async with httpx.AsyncClient(base_url=base) as client:
        before = await completed(client)
        started = time.perf_counter()
        submitting = asyncio.create_task(submit_all(bus, count))
        while await completed(client) < before + count:
            assert time.perf_counter() - started < 120
            await asyncio.sleep(0.02)
        spent = time.perf_counter() - started
    await submitting
    return count / spent


async def submitter(server: NatsServer, base: str, count: int) -> float:
    """Jobs per second, by a submitter of its own process."""
    argv = ("-m", "tests.perf.queue_rig", server.url, base, str(count))
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), 180)
    return float(output)


async def _main(url: str, base: str, count: int) -> None:
    bus = Bus(NatsSettings(NATS_URL=url), "submitter")
    bus.start()
    assert await bus.wait_connected(5)
    print(f"{await jobs_per_s(base, bus, count):.0f}", flush=True)
    await bus.stop()


if __name__ == "__main__":
    import uvloop

    configure_logging("submitter", "ERROR")
    uvloop.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
