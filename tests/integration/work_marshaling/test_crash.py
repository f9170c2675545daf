"""The service as a real process: kill -9 between submit and completion, NATS killed under load, replay."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from tests.integration.work_marshaling.cluster import Registry, ended, marshaling, node_record, submit
from tests.integration.work_marshaling.processes import Process, client_of, ready
from tests.support import waiting
from tests.support.nats import NatsServer


@pytest.fixture
async def process(nats_server: NatsServer) -> AsyncIterator[Process]:
    own = Process(nats_server.url)
    await own.start()
    yield own
    await own.end(signal.SIGKILL)


async def assigned(client: httpx.AsyncClient, work_id: str) -> dict[str, Any]:
    item: dict[str, Any] = {}

    async def is_assigned() -> bool:
        item.update((await client.get(f"/api/v1/work/{work_id}")).json())
        return bool(item["status"] == "assigned")

    await waiting.until(is_assigned)
    return item


async def test_kill_9_between_submit_and_completion_loses_nothing(process: Process, bus: Bus) -> None:
    registry = Registry(bus)
    await registry.start()
    registry.nodes["plain"] = node_record("plain", slots=2)
    async with client_of(process) as client:
        held = await submit(client, payload={"n": 1})
        await assigned(client, held)
        far = await submit(client, work_type="test", requirements={"labels": {"site": "far"}})
        await process.end(signal.SIGKILL)
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": held, "result": "while away", "attempt": 1})
        await bus.publish(subjects.WORK_SUBMIT, {"work_id": "new", "work_type": "test"})
        await bus.flush()
        await process.start()
        item = await ended(client, held)
        assert (item["status"], item["result"], item["attempt"]) == ("completed", "while away", 1)
        assert (await assigned(client, "new"))["assigned_node"] == "plain"
        words = (await client.get(f"/api/v1/work/{far}")).json()["waiting_for"]
        assert words == "no online node has the labels site=far"
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": held, "result": "again", "attempt": 1})
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": "new", "result": 2})
        await ended(client, "new")
        assert (await client.get(f"/api/v1/work/{held}")).json()["result"] == "while away"
    assert await process.end() in (0, -signal.SIGTERM)  # uvicorn ends, then raises the signal again


async def test_nats_killed_under_load_loses_nothing_that_was_accepted(
    process: Process, nats_server: NatsServer, bus: Bus
) -> None:
    registry = Registry(bus)
    await registry.start()
    registry.nodes["plain"] = node_record("plain", slots=8)

    async def on_work(message: dict[str, Any]) -> None:
        report = {"work_id": message["work_id"], "node_id": "plain", "attempt": message["attempt"]}
        await bus.publish(subjects.WORK_COMPLETED, {**report, "result": message["payload"]["n"]})

    await bus.subscribe(subjects.WORK_ASSIGNED, on_work)
    accepted: dict[str, int] = {}
    async with client_of(process) as client:

        async def send(n: int) -> None:
            answer = await client.post(
                "/api/v1/work/submit",
                json={"work_type": "test", "payload": {"n": n}, "timeout_seconds": 3, "max_retries": 20},
            )
            if answer.status_code == 202:
                accepted[answer.json()["work_id"]] = n

        for start in range(0, 120, 10):
            if start == 60:
                nats_server.stop(kill=True)
                nats_server.start()
            await asyncio.gather(*(send(n) for n in range(start, start + 10)))
        await waiting.until(lambda: ready(client), 30)
        items = [await ended(client, work_id, 30) for work_id in accepted]
    assert len(accepted) >= 60
    assert [item["result"] for item in items] == list(accepted.values())


async def test_a_stream_made_anew_is_read_from_its_beginning(nats_server: NatsServer, bus: Bus) -> None:
    async with marshaling(nats_server.url) as (service, client):
        old = await submit(client)
        await bus.jetstream().delete_stream(WORK_STREAM)

        async def forgotten() -> bool:
            return bool((await client.get(f"/api/v1/work/{old}")).status_code == 404)

        await waiting.until(forgotten, 15)
        await waiting.until(lambda: service.is_ready() and service.dispatcher.leading)
        assert (await submit(client)).startswith("w-")


async def test_changes_are_streamed_to_those_who_watch(process: Process) -> None:
    async with client_of(process) as client, client.stream("GET", "/api/v1/work/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        assert await anext(lines) == ": work events"
        work_id = await submit(client)
        await client.delete(f"/api/v1/work/{work_id}")
        seen = []
        async with asyncio.timeout(5):
            async for line in lines:
                if line.startswith("data:"):
                    seen.append(json.loads(line[5:]))
                if len(seen) == 2:
                    break
    assert [(event["event"], event["work_id"]) for event in seen] == [
        ("submitted", work_id),
        ("cancelled", work_id),
    ]
