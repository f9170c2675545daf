"""Marshalers side by side: one decides, each answers; the leader dies, stands still, comes back."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_node import Job, Worker
from tests.integration.work_marshaling.cluster import Registry, ended, node_record, submit
from tests.integration.work_marshaling.history import decided_out_of_turn, judged, leaders, records_of
from tests.integration.work_marshaling.processes import Process, client_of, ready, role
from tests.support import waiting
from tests.support.nats import NatsServer

TAKE_OVER_SECONDS = 10.0


@asynccontextmanager
async def replicas(url: str, *names: str) -> AsyncIterator[list[Process]]:
    processes = [Process(url, name) for name in names]
    try:
        for process in processes:
            await process.start()
        yield processes
    finally:
        for process in processes:
            process.send(signal.SIGCONT)
            await process.end(signal.SIGKILL)


@asynccontextmanager
async def worker(bus: Bus, url: str, ran: Counter[tuple[str, int]]) -> AsyncIterator[Registry]:
    """A node of the SDK with eight slots that counts what it runs."""
    registry = Registry(bus)
    await registry.start()
    own = Worker("sdk", nats_url=url, concurrency=8)

    @own.handles("test")
    async def run(job: Job) -> object:
        ran[job.work_id, job.attempt] += 1
        await asyncio.sleep(0.01)
        return job.payload

    await own.start()
    registry.nodes["sdk"] = node_record("sdk", slots=8, fenced=True, work_types=["test"])
    yield registry
    await own.stop()


async def leader_of(processes: list[Process], seconds: float = 30) -> Process:
    """The one that leads, as soon as exactly one does."""
    found: list[Process] = []

    async def one() -> bool:
        roles = await asyncio.gather(*(role(process) for process in processes))
        found[:] = [each for each, part in zip(processes, roles, strict=True) if part == "leading"]
        return len(found) == 1

    await waiting.until(one, seconds)
    return found[0]


class Load:
    """Submits to each replica in turn; one that does not answer is passed over."""

    def __init__(self, processes: list[Process]) -> None:
        self._processes = processes
        self.accepted: list[str] = []
        self.gone: set[Process] = set()

    async def run(self, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=3) as client:
            turn = 0
            while not stop.is_set():
                turn += 1
                process = self._processes[turn % len(self._processes)]
                if process not in self.gone:
                    await self._submit(client, process, turn)
                await asyncio.sleep(0.01)

    async def _submit(self, client: httpx.AsyncClient, process: Process, turn: int) -> None:
        body = {"work_type": "test", "work_id": f"item-{turn}", "payload": {"n": turn}}
        try:
            answer = await client.post(f"{process.base}/api/v1/work/submit", json=body)
        except httpx.TransportError:
            return
        if answer.status_code == 202:
            self.accepted.append(f"item-{turn}")


async def all_done(client: httpx.AsyncClient) -> bool:
    stats = (await client.get("/api/v1/stats")).json()
    return bool(stats["pending"] + stats["assigned"] == 0)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_standby_takes_over_and_nothing_is_lost_or_done_twice(
    nats_server: NatsServer, bus: Bus, fate: signal.Signals
) -> None:
    ran: Counter[tuple[str, int]] = Counter()
    assigned_at: list[float] = []

    async def note(_message: object) -> None:
        assigned_at.append(time.monotonic())

    async with replicas(nats_server.url, "a", "b", "c") as processes, worker(bus, nats_server.url, ran):
        await bus.subscribe(subjects.WORK_ASSIGNED, note)
        first = await leader_of(processes)
        load, stop = Load(processes), asyncio.Event()
        loading = asyncio.create_task(load.run(stop))
        await waiting.until(lambda: len(ran) >= 50)
        load.gone.add(first)
        first.send(fate)
        hit_at = time.monotonic()
        others = [process for process in processes if process is not first]
        second = await leader_of(others)
        await waiting.until(lambda: assigned_at[-1] > hit_at + 1.0)
        gap = max(late - early for early, late in pairwise(assigned_at))
        first.send(signal.SIGCONT)
        more = len(ran) + 50
        await waiting.until(lambda: len(ran) >= more)
        stop.set()
        await loading
        async with client_of(second) as client:
            await waiting.until(lambda: all_done(client), 30)
        assert await role(second) == "leading"
        if fate is signal.SIGSTOP:
            await waiting.until(lambda: ready_again(first), 15)
            assert await role(first) == "standing by"
        records = await records_of(bus)
    state = judged(records)
    print(f"\nassignments stood still for {gap:.1f} s after {fate.name}; {len(load.accepted)} items")
    assert gap <= TAKE_OVER_SECONDS
    assert {state.items[work_id].status.value for work_id in load.accepted} == {"completed"}
    assert set(ran.values()) == {1}, "an attempt ran twice"
    assert len(leaders(records)) == 2
    assert decided_out_of_turn(records) == []
    assert state.ignored["forged-decision"] == 0


async def ready_again(process: Process) -> bool:
    async with client_of(process) as client:
        return await ready(client)


async def test_a_leader_started_again_leads_at_once(nats_server: NatsServer, bus: Bus) -> None:
    async with replicas(nats_server.url, "a", "b") as (first, second):
        assert await leader_of([first, second]) is first
        await first.end(signal.SIGKILL)
        await first.start()
        started = time.monotonic()
        assert await leader_of([first, second]) is first
        assert time.monotonic() - started <= 2.0
        await first.end()  # one that ends in order lets go of the lease
        ended_at = time.monotonic()
        assert await leader_of([second]) is second
        assert time.monotonic() - ended_at <= 3.0
        assert decided_out_of_turn(await records_of(bus)) == []
        await first.start()
        assert await role(first) == "standing by"


async def test_every_replica_answers_alike(nats_server: NatsServer, bus: Bus) -> None:
    async with replicas(nats_server.url, "a", "b") as processes:
        leader = await leader_of(processes)
        standby = next(process for process in processes if process is not leader)
        async with client_of(leader) as one, client_of(standby) as other:
            for here, there in ((one, other), (other, one)):
                assert (await here.get("/readyz")).status_code == 200
                work_id = await submit(here, payload={"n": 1}, idempotency_key=f"k-{here is one}")
                item = (await there.get(f"/api/v1/work/{work_id}")).json()
                assert (item["status"], item["waiting_for"]) == (
                    "pending",
                    "no node is online; start one with `compute node`",
                )
                again = await submit(there, payload={"n": 1}, idempotency_key=f"k-{here is one}")
                assert again == work_id
                assert (await there.delete(f"/api/v1/work/{work_id}")).json()["cancelled"] is True
                assert (await ended(here, work_id))["status"] == "cancelled"
                assert (await here.get("/api/v1/stats")).json() == (await there.get("/api/v1/stats")).json()
