"""The SDK's worker with the real queue and the real registry: runs, reports, hands back, survives."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from compute_common import subjects
from compute_common.bus import Bus
from compute_node import Job, Worker, WorkError
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.work_marshaling.cluster import ended, marshaling, submit, until
from tests.support.apps import serving
from tests.support.nats import NatsServer
from work_marshaling.service import WorkMarshaling


@asynccontextmanager
async def cluster(url: str, **values: Any) -> AsyncIterator[tuple[WorkMarshaling, httpx.AsyncClient]]:
    registry = NodeRegistry(RegistrySettings(NATS_URL=url, NODE_ID="test-host"))
    async with serving(registry), marshaling(url, **values) as pair:
        yield pair


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


def worker_of(server: NatsServer, node_id: str = "box.one", **values: Any) -> Worker:
    return Worker(node_id, nats_url=server.url, announce=True, **values)


async def test_a_handler_runs_and_its_result_comes_back(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server)

    @worker.handles("double")
    async def double(job: Job) -> Any:
        await job.progress({"percent": 50})
        return job.payload["n"] * 2

    async with cluster(nats_server.url) as (_, client), working(worker):
        work_id = await submit(client, work_type="double", payload={"n": 21})
        item = await ended(client, work_id)
    assert (item["status"], item["result"]) == ("completed", 42)
    assert (item["assigned_node"], item["progress"]) == ("box.one", {"percent": 50})


async def test_work_of_other_types_waits_for_a_worker_that_handles_it(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server)

    @worker.handles("double")
    async def double(job: Job) -> Any:
        return job.payload["n"] * 2

    async with cluster(nats_server.url) as (service, client), working(worker):
        await until(lambda: "box.one" in service.nodes.fleet.nodes)
        work_id = await submit(client, work_type="triple")
        item = (await client.get(f"/api/v1/work/{work_id}")).json()
    expected = "no online node takes work type 'triple'; start a worker that handles it"
    assert item["waiting_for"] == expected


async def test_a_failure_is_tried_again_and_a_hopeless_one_is_not(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server)
    attempts: list[int] = []

    @worker.handles("flaky")
    async def flaky(job: Job) -> Any:
        attempts.append(job.attempt)
        if job.attempt < 3:
            raise RuntimeError("not yet")
        return "done"

    @worker.handles("hopeless")
    async def hopeless(job: Job) -> Any:
        raise WorkError("the payload makes no sense", retryable=False)

    values = {"WORK_RETRY_DELAY": 0.05}
    async with cluster(nats_server.url, **values) as (_, client), working(worker):
        item = await ended(client, await submit(client, work_type="flaky"))
        assert (item["status"], item["result"], item["retry_count"]) == ("completed", "done", 2)
        assert attempts == [1, 2, 3]
        failed = await ended(client, await submit(client, work_type="hopeless"))
    assert (failed["status"], failed["attempt"]) == ("failed", 1)
    assert failed["error_message"] == "the payload makes no sense"


async def test_a_cancelled_item_stops_in_the_worker(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server)
    stopped = asyncio.Event()
    started = asyncio.Event()

    @worker.handles("long")
    async def long(job: Job) -> Any:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async with cluster(nats_server.url) as (_, client), working(worker):
        work_id = await submit(client, work_type="long")
        await asyncio.wait_for(started.wait(), 5)
        await client.delete(f"/api/v1/work/{work_id}")
        await asyncio.wait_for(stopped.wait(), 5)
        item = (await client.get(f"/api/v1/work/{work_id}")).json()
    assert item["status"] == "cancelled"


async def test_a_leaving_worker_hands_back_and_another_one_does_the_work(nats_server: NatsServer) -> None:
    leaving = worker_of(nats_server, "leaving", grace_seconds=0.1)
    started = asyncio.Event()

    @leaving.handles("job")
    async def hang(job: Job) -> Any:
        started.set()
        await asyncio.sleep(60)

    staying = worker_of(nats_server, "staying")

    @staying.handles("job")
    async def work(job: Job) -> Any:
        return job.attempt

    async with cluster(nats_server.url) as (_, client):
        async with working(leaving):
            work_id = await submit(client, work_type="job", max_retries=0)
            await asyncio.wait_for(started.wait(), 5)
        async with working(staying):
            item = await ended(client, work_id)
    assert (item["status"], item["assigned_node"]) == ("completed", "staying")
    assert item["retry_count"] == 0
    assert "node is leaving" in [step["reason"] for step in item["history"]]


async def test_a_result_outlives_a_nats_restart(nats_server: NatsServer) -> None:
    worker = worker_of(nats_server)
    release = asyncio.Event()
    started = asyncio.Event()

    @worker.handles("job")
    async def work(job: Job) -> Any:
        started.set()
        await release.wait()
        return "kept"

    async with cluster(nats_server.url) as (service, client), working(worker):
        work_id = await submit(client, work_type="job")
        await asyncio.wait_for(started.wait(), 5)
        nats_server.stop(kill=True)
        await until(lambda: not worker.bus.connected and not service.is_ready())
        assert (await client.get("/readyz")).status_code == 503
        refused = await client.post("/api/v1/work/submit", json={"work_type": "job"})
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        release.set()
        nats_server.start()
        await until(service.is_ready, 15)
        item = await ended(client, work_id)
    assert (item["status"], item["result"], item["attempt"]) == ("completed", "kept", 1)


async def test_assignments_of_others_repeated_and_of_older_leaders_are_dropped(
    nats_server: NatsServer, bus: Bus
) -> None:
    worker = worker_of(nats_server)
    ran: list[tuple[str, int]] = []

    @worker.handles("job")
    async def work(job: Job) -> Any:
        ran.append((job.work_id, job.attempt))

    async with working(worker):
        await until(lambda: worker.bus.connected)
        await bus.publish(subjects.WORK_ASSIGNED, assignment("a"))
        await until(lambda: ("a", 1) in ran)
        for message in (
            assignment("a"),
            assignment("b", node_id="another"),
            assignment("c", epoch=4),
            {"work_id": "d", "node_id": "box.one"},
            assignment("a", attempt=2),
            assignment("a", attempt=1),
            assignment("e"),
        ):
            await bus.publish(subjects.WORK_ASSIGNED, message)
        await until(lambda: ("e", 1) in ran)
    assert ran == [("a", 1), ("a", 2), ("e", 1)]


async def test_a_forged_epoch_shuts_the_true_leader_out_of_nothing(nats_server: NatsServer, bus: Bus) -> None:
    worker = worker_of(nats_server)
    ran: list[str] = []

    @worker.handles("job")
    async def work(job: Job) -> Any:
        ran.append(job.work_id)
        return "done"

    async with cluster(nats_server.url) as (service, client), working(worker):
        await until(lambda: "box.one" in service.nodes.fleet.nodes)
        for epoch in (1 << 53, int(time.time()) + 1):  # absurd, and none that a clock could tell
            await bus.publish(subjects.WORK_ASSIGNED, assignment(f"forged-{epoch}", epoch=epoch))
            await until(lambda: ran[-1:] == [f"forged-{epoch}"])  # noqa: B023 - awaited at once
            for _item in range(2):
                item = await ended(client, await submit(client, work_type="job"))
                assert (item["status"], item["result"], item["attempt"]) == ("completed", "done", 1)
        await bus.publish(subjects.WORK_ASSIGNED, assignment("nobody-gave-it", epoch=5))
        await bus.publish(subjects.WORK_ASSIGNED, assignment(item["work_id"], epoch=5, attempt=2))
        await until(lambda: not worker._background)
        await ended(client, await submit(client, work_type="job"))
    assert len(ran) == len(set(ran)) == 7
    assert "nobody-gave-it" not in ran


def assignment(work_id: str, **values: Any) -> dict[str, Any]:
    now = "2026-01-01T00:00:00Z"
    base = {"work_id": work_id, "request_id": work_id, "node_id": "box.one", "attempt": 1, "epoch": 5}
    times = {"assigned_at": now, "lease_expires_at": now, "expires_at": now}
    return {**base, **times, "work_type": "job", "workload_type": "job", **values}
