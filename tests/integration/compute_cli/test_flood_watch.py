"""A node that floods the server, and comes back at once each time, beside an honest one that works."""

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from compute_cli import flood_watch, floods, node_accounts
from compute_cli.flood_watch import FloodWatch
from compute_cli.nats_accounts import NodeAccount
from compute_common import subjects
from compute_common.bus import Bus
from compute_common.tasks import end_tasks
from compute_node import Job, Worker
from tests.integration.compute_cli.accounts import enter, inside, is_refused, url_of
from tests.integration.compute_cli.test_hostile_node import known
from tests.integration.compute_node.test_worker import cluster, working
from tests.integration.work_marshaling.cluster import ended, submit
from tests.support import waiting
from tests.support.nats import NatsServer

HONEST, EVIL = "honest.one", "evil"
FLOOD_SECONDS = 6


@asynccontextmanager
async def watching(server: NatsServer) -> AsyncIterator[list[str]]:
    """What the watch has said so far."""
    said: list[str] = []
    task = asyncio.create_task(FloodWatch(server.home, server.url, said.append).keep())
    try:
        yield said
    finally:
        await end_tasks([task])


@asynccontextmanager
async def flooding(server: NatsServer, node: NodeAccount, work_id: str) -> AsyncIterator[Any]:
    """Completions that never count, of an item that the node holds: each has to be read."""
    body = json.dumps({"work_id": work_id, "node_id": EVIL, "attempt": 7, "result": "x" * 100})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.flooder", "127.0.0.1", str(server.port)),
        *(node.node_id, node.password, subjects.WORK_COMPLETED, str(FLOOD_SECONDS), body),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def one_item(client: httpx.AsyncClient) -> float:
    """Seconds from a submission to its result."""
    started = time.monotonic()
    item = await ended(client, await submit(client, work_type="own", payload={"n": 2}))
    assert (item["status"], item["result"]) == ("completed", {"doubled": 4})
    return time.monotonic() - started


async def test_an_honest_nodes_items_go_on_beside_a_flood(nats_server: NatsServer, bus: Bus) -> None:
    honest, evil = await enter(nats_server, HONEST), await enter(nats_server, EVIL)
    worker = Worker(HONEST, nats_url=url_of(nats_server, honest), announce=True)

    @worker.handles("own")
    async def double(job: Job) -> object:
        return {"doubled": job.payload["n"] * 2}

    async with (
        cluster(nats_server.url) as (service, client),
        inside(nats_server, evil) as (bad,),
        working(worker),
        watching(nats_server) as said,
    ):
        await bad.say(subjects.NODES_ANNOUNCE, {"node_id": EVIL, "hostname": "e", "work_types": ["bad"]})
        await known(bus, HONEST)
        await known(bus, EVIL)
        held = await submit(client, work_type="bad", requirements={"node_id": EVIL})
        await waiting.until(lambda: service.state.items[held].holder == EVIL, 10)
        async with flooding(nats_server, evil, held) as process:
            await waiting.until(lambda: said != [], 10)
            delays = [await one_item(client) for _ in range(5)]
            assert await is_refused(url_of(nats_server, evil))
            await process.wait()  # it comes back twenty times a second until then
        assert "'evil' floods NATS" in said[0]
        assert len(said) == 1
        assert max(delays) < 10, delays
        assert worker.bus.connected
        assert list(node_accounts.kept_out(nats_server.home)) == [EVIL]


async def test_it_may_come_back_when_its_time_is_over(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floods, "FIRST_HOLD_SECONDS", 1.0)
    monkeypatch.setattr(flood_watch, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(floods, "BURST", 1000.0)
    monkeypatch.setattr(floods, "MESSAGES_PER_SECOND", 100.0)
    evil = await enter(nats_server, EVIL)
    async with watching(nats_server) as said, inside(nats_server, evil) as (bad,):
        await asyncio.sleep(2 * flood_watch.LOOK_SECONDS)  # it is known by then
        for _ in range(20_000):
            await bad.client.publish("x", b"")
        await waiting.until(lambda: not bad.client.is_connected, 10)
        await waiting.until(lambda: bool(said) and said[-1].endswith("may connect to NATS again"), 10)

        async def is_in() -> bool:
            return not await is_refused(url_of(nats_server, evil))

        await waiting.until(is_in)
    assert node_accounts.kept_out(nats_server.home) == {}


async def test_an_operators_word_counts_at_once(nats_server: NatsServer) -> None:
    evil = await enter(nats_server, EVIL)
    node_accounts.keep_out(nats_server.home, {EVIL: time.time() + 60})

    async def is_out() -> bool:
        return await is_refused(url_of(nats_server, evil))

    await waiting.until(is_out)
    await enter(nats_server, "other")  # whoever writes the configuration leaves it out, too
    assert await is_out()
    again = await enter(nats_server, EVIL)
    assert not await is_refused(url_of(nats_server, again))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nats-py, when it is refused
async def test_a_worker_that_was_kept_out_goes_on_when_it_may(nats_server: NatsServer, bus: Bus) -> None:
    account = await enter(nats_server, HONEST)
    worker = Worker(HONEST, nats_url=url_of(nats_server, account), announce=True)

    @worker.handles("own")
    async def double(job: Job) -> object:
        return {"doubled": job.payload["n"] * 2}

    async with cluster(nats_server.url) as (_, client), working(worker):
        await known(bus, HONEST)
        node_accounts.keep_out(nats_server.home, {HONEST: time.time() + 1})
        await waiting.until(lambda: not worker.bus.connected, 5)
        await asyncio.sleep(1)  # it is refused several times
        assert node_accounts.let_in(nats_server.home, time.time()) == [HONEST]
        await waiting.until(lambda: worker.bus.connected, 10)
        await one_item(client)
    gc.collect()  # the sockets that nats-py left open, in here where they are expected
