"""How soon everything is known again, and at which rate it is told, after a registry or NATS is killed."""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nats
import pytest
from nats.js.errors import NotFoundError

from compute_common import jetstream
from tests.perf.test_registry_load import NODES, ROOT, registry, until_ready
from tests.support.nats import NatsServer

CONNECTIONS = 100
LONGEST_SECONDS = 10.0
MOST_LIVEZ_SECONDS = 1.0
POLL_SECONDS = 0.2
MOST_PER_SECOND = 4000  # twice of what is asked for: the spread is random


@dataclass
class FleetProcess:
    """The fleet in a process of its own; `announced_at` is there once it has ended."""

    process: asyncio.subprocess.Process
    announced_at: list[float] = field(default_factory=list)

    def peak_per_second(self, since: float) -> int:
        """The most announcements in one second from `since` on."""
        return max(Counter(int(at - since) for at in self.announced_at if at >= since).values(), default=0)

    def count(self, since: float) -> int:
        return sum(at >= since for at in self.announced_at)


@asynccontextmanager
async def living_fleet(url: str) -> AsyncIterator[FleetProcess]:
    argv = (sys.executable, "-m", "tests.support.living_fleet", url, str(NODES), str(CONNECTIONS))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT, stdin=pipe, stdout=pipe, limit=1 << 24)
    own = FleetProcess(process)
    try:
        yield own
    finally:
        told, _nothing = await process.communicate(b"")
        own.announced_at = json.loads(told)


async def until_all_online(url: str, seconds: float = 60) -> None:
    """Asked a few times a second: counting ten thousand nodes is work, too."""
    async with asyncio.timeout(seconds), httpx.AsyncClient(timeout=30) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                stats = (await http.get(f"{url}/api/v1/stats")).json()
                if (stats["total_nodes"], stats["online_nodes"]) == (NODES, NODES):
                    return
            await asyncio.sleep(POLL_SECONDS)


async def slowest_livez(url: str, during: Awaitable[object]) -> float:
    """The longest that /livez took, in seconds, once it answered at all."""
    work, slowest, answered = asyncio.ensure_future(during), 0.0, False
    async with httpx.AsyncClient(timeout=30) as http:
        while not work.done():
            started = time.monotonic()
            try:
                await http.get(f"{url}/livez")
                slowest, answered = max(slowest, time.monotonic() - started), True
            except httpx.TransportError:
                assert not answered, "it answered before"
            await asyncio.sleep(POLL_SECONDS / 4)
    await work
    return slowest


async def forget(server: NatsServer) -> None:
    """The store is lost: nothing but the nodes' own word is left."""
    client = await nats.connect(server.url)
    for bucket in (jetstream.NODES_BUCKET, jetstream.DRAINS_BUCKET):
        with contextlib.suppress(NotFoundError):
            await client.jetstream().delete_key_value(bucket)
    await client.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", ["kept", "lost"])
async def test_a_killed_registry(tmp_path: Path, nats_server: NatsServer, store: str) -> None:
    async with living_fleet(nats_server.url) as fleet:
        with registry(nats_server, tmp_path) as (process, url):
            await until_ready(url)
            await until_all_online(url)
            await asyncio.sleep(8)  # everything is written
            process.kill()
            process.wait()
        if store == "lost":
            await forget(nats_server)
        killed, wall = time.monotonic(), time.time()
        with registry(nats_server, tmp_path) as (_process, url):
            slowest = await slowest_livez(url, until_all_online(url))
            seconds = time.monotonic() - killed
            slowest = max(slowest, await slowest_livez(url, asyncio.sleep(12 - seconds)))
    report(f"registry killed, store {store}", seconds, fleet, wall, slowest)


@pytest.mark.timeout(300)
async def test_a_killed_nats_server(tmp_path: Path, nats_server: NatsServer) -> None:
    async with living_fleet(nats_server.url) as fleet:
        with registry(nats_server, tmp_path) as (_process, url):
            await until_ready(url)
            await until_all_online(url)
            await asyncio.sleep(8)
            nats_server.stop(kill=True)
            await asyncio.sleep(3)
            nats_server.start()
            wall = time.time()
            slowest = await slowest_livez(url, asyncio.sleep(12))
            await until_all_online(url, 1)
    told = sorted(fleet.announced_at)
    since = [at - wall for at in told if at >= wall]
    assert len(since) >= NODES
    report("NATS killed", since[NODES - 1], fleet, wall, slowest)


def report(what: str, seconds: float, fleet: FleetProcess, wall: float, slowest: float) -> None:
    peak, count = fleet.peak_per_second(wall), fleet.count(wall)
    print(
        f"\n{what}: {NODES} known after {seconds:.1f} s, {count} announcements, at most {peak}/s, "
        f"slowest /livez {slowest * 1000:.0f} ms"
    )
    assert seconds <= LONGEST_SECONDS
    assert peak <= MOST_PER_SECOND
    assert slowest <= MOST_LIVEZ_SECONDS
