"""The registry as a process of its own under 10,000 nodes that beat every 5 s.

The load comes from another process over a real NATS server; this one asks meanwhile, one question at a time.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import nats
import psutil
from nats.aio.client import Client

from compute_cli import nats_server as embedded
from compute_common import subjects, wire_json
from tests.perf.fleet import BEAT_SECONDS, fleet
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.ports import free_port

NODES = 10_000
ROOT = Path(__file__).parent.parent.parent
LOAD_SECONDS = 15.0
QUIET_SECONDS = 5.0
PAUSE_SECONDS = 0.01
QUERY = {"requires_gpu": True, "min_vram_gb": 24, "work_type": "inference", "limit": 20}
RARE = {"min_vram_gb": 24, "labels": {"rack": "none"}, "limit": 20}  # has to look at every node


@contextmanager
def registry(server: NatsServer, home: Path) -> Iterator[tuple[psutil.Process, str]]:
    port = free_port()
    with (home / "registry.log").open("ab") as log:
        argv = ("uvicorn", "node_registry.app:app", "--port", str(port), "--no-access-log", "--ws", "none")
        process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            env={
                "PATH": "/usr/bin:/bin",
                "NATS_URL": server.url,
                "NODE_ID": "registry",
                "LOG_LEVEL": "WARNING",
                "COMPUTE_HOME": str(home),
                **embedded.system_login(server.home),
            },
            stdout=log,
            stderr=log,
        )
    try:
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


async def until_ready(url: str, seconds: float = 30) -> float:
    """Seconds until /readyz is 200."""
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=30) as client:
        while time.monotonic() - started < seconds:
            try:
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return time.monotonic() - started
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.01)
    raise AssertionError("the registry did not become ready")


async def known(client: httpx.AsyncClient, url: str) -> int:
    return int((await client.get(f"{url}/api/v1/stats")).json()["total_nodes"])


async def beating(url: str, seconds: float) -> None:
    """The whole fleet beats, from a process of its own."""
    argv = (sys.executable, "-m", "tests.perf.fleet", url, str(NODES), str(seconds))
    process = await asyncio.create_subprocess_exec(*argv, cwd=ROOT)
    assert await process.wait() == 0


async def ask_in_turn(
    questions: Mapping[str, Callable[[], Awaitable[object]]], stop: asyncio.Event
) -> dict[str, list[float]]:
    """Each question in its turn until told to stop; milliseconds by question."""
    spans: dict[str, list[float]] = {name: [] for name in questions}
    for name in cycle(questions):
        if stop.is_set():
            break
        started = time.perf_counter()
        await questions[name]()
        spans[name].append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    return spans


def percentiles(values: list[float]) -> str:
    ordered = sorted(values)
    picks = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"p50 {picks[0]:.1f} ms, p99 {picks[1]:.1f} ms, max {ordered[-1]:.1f} ms of {len(ordered)}"


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


async def test_ten_thousand_nodes(tmp_path: Path, nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    with registry(nats_server, tmp_path) as (process, url):
        await until_ready(url)
        async with httpx.AsyncClient(timeout=60) as http:
            for document in fleet(NODES):
                await client.publish(subjects.NODES_ANNOUNCE, wire_json.dump(document))
            await client.flush()

            async def all_known() -> bool:
                return await known(http, url) == NODES

            await waiting.until(all_known, 60)
            await asyncio.sleep(8)  # the first write of everything to the store is not the steady state
            await _load(client, http, url, process)
            started = time.perf_counter()
            whole = await http.post(f"{url}/api/v1/nodes/query", json={"online_only": False})
            spent = time.perf_counter() - started
            assert whole.json()["count"] == NODES
            print(f"all {NODES} nodes over HTTP: {spent * 1000:.0f} ms, {len(whole.content) >> 20} MiB")
    with registry(nats_server, tmp_path) as (process, url):
        seconds = await until_ready(url)
        started_at = process.create_time()
        async with httpx.AsyncClient(timeout=60) as http:
            assert await known(http, url) == NODES
        print(f"start with {NODES} stored nodes: {seconds:.2f} s, {time.time() - started_at:.2f} s in all")
    await client.close()
    assert seconds <= 3.0


async def _load(client: Client, http: httpx.AsyncClient, url: str, process: psutil.Process) -> None:
    rng, stop = random.Random(2), asyncio.Event()  # noqa: S311

    async def over_nats(query: dict[str, object]) -> None:
        answer = await client.request(subjects.NODES_QUERY, wire_json.dump(query), timeout=10)
        assert b'"nodes"' in answer.data

    async def over_http() -> None:
        assert (await http.post(f"{url}/api/v1/nodes/query", json=QUERY)).status_code == 200

    async def one() -> None:
        node_id = f"node-{rng.randrange(NODES):05}"
        assert (await http.get(f"{url}/api/v1/nodes/{node_id}")).status_code == 200

    questions = {
        "filtered query over NATS": lambda: over_nats(QUERY),
        "query that finds nothing, NATS": lambda: over_nats(RARE),
        "filtered query over HTTP": over_http,
        "one node over HTTP": one,
    }
    nats_url = str(client.connected_url.geturl() if client.connected_url else "")
    alone = await _share_of_a_core(process, beating(nats_url, QUIET_SECONDS))
    asking = asyncio.create_task(ask_in_turn(questions, stop))
    share = await _share_of_a_core(process, beating(nats_url, LOAD_SECONDS))
    stop.set()
    spans = await asking
    rss_mb = process.memory_info().rss >> 20
    asked = sum(map(len, spans.values())) / LOAD_SECONDS
    rate = NODES / BEAT_SECONDS
    print(f"\n{rate:.0f} heartbeats/s: {alone:.0%} of a core; and {asked:.0f} questions/s: {share:.0%}")
    print(f"resident: {rss_mb} MiB")
    for name, values in spans.items():
        print(f"{name}: {percentiles(values)}")
    stats = (await http.get(f"{url}/api/v1/stats")).json()
    assert stats["online_nodes"] == NODES
    assert alone <= 0.5
    assert share <= 0.5
    assert rss_mb <= 250
    assert p99(spans["filtered query over NATS"]) <= 10
    assert p99(spans["filtered query over HTTP"]) <= 25
    assert p99(spans["one node over HTTP"]) <= 25


async def _share_of_a_core(process: psutil.Process, work: Awaitable[object]) -> float:
    """The processor time the registry used while `work` went on, against the clock."""
    before, started = process.cpu_times(), time.monotonic()
    await work
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - started)
