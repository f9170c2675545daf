"""One trace from a client's request through the queue and its log to the worker, its engine and back."""

from typing import Any

import pytest
import structlog

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from compute_node import Job
from compute_node.openai import OpenAIServer
from tests.integration.compute_node.test_worker import cluster, worker_of, working
from tests.integration.work_marshaling.cluster import ended, until
from tests.support.nats import NatsServer
from tests.support.scripted_engine import ScriptedEngine

TRACE = "0af7651916cd43dd8448eb211c80319c"
GIVEN = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


async def header_of(bus: Bus, subject: str) -> str | None:
    """The trace of the last message that the work log has under a subject."""
    message = await bus.jetstream().get_last_msg(WORK_STREAM, subject)
    return (message.headers or {}).get("traceparent")


async def test_the_trace_of_a_request_reaches_the_worker_its_engine_and_the_log(
    nats_server: NatsServer, bus: Bus, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = worker_of(nats_server)
    engine = ScriptedEngine()
    seen: list[str | None] = []

    @worker.handles("inference")
    async def inference(job: Job) -> Any:
        seen.append(job.traceparent)
        structlog.get_logger("handler").warning("inside")
        server = OpenAIServer(engine.url, model="tiny")
        try:
            return await server.inference(job)
        finally:
            await server.close()

    async with engine.running(), cluster(nats_server.url) as (_, client), working(worker):
        body = {"work_type": "inference", "payload": {"prompt": "hi"}}
        answer = await client.post("/api/v1/work/submit", json=body, headers=GIVEN)
        item = await ended(client, answer.json()["work_id"])
        recorded = [
            await header_of(bus, subject)
            for subject in (subjects.WORK_SUBMIT, subjects.WORK_ASSIGNED, subjects.WORK_COMPLETED)
        ]
        await ended(client, (await client.post("/api/v1/work/submit", json=body)).json()["work_id"])
    assert item["status"] == "completed"
    assert [header.split("-")[1] for header in recorded if header] == [TRACE] * 3
    assert seen[0] is not None
    assert f"traceparent: {seen[0]}" in engine.heads[0]
    assert seen[0].split("-")[1] == TRACE
    inside = [
        wire_json.parse_object(line.encode())
        for line in capfd.readouterr().err.splitlines()
        if "inside" in line
    ]
    assert [line.get("trace_id") for line in inside] == [TRACE, None]
    assert seen[1] is None  # nobody asked for a trace
    assert "traceparent" not in engine.heads[1]


async def test_a_trace_given_over_nats_outlives_the_memory_of_the_marshaler(
    nats_server: NatsServer, bus: Bus
) -> None:
    worker = worker_of(nats_server)
    seen: list[str | None] = []

    @worker.handles("double")
    async def double(job: Job) -> Any:
        seen.append(job.traceparent)
        return job.payload["n"] * 2

    async with cluster(nats_server.url) as (service, client):
        body = {"work_type": "double", "work_id": "traced", "payload": {"n": 21}}
        await bus.client.publish(subjects.WORK_SUBMIT, wire_json.dump(body), headers=GIVEN)
        await until(lambda: "traced" in service.state.items)
        service.bodies.clear()
        async with working(worker):
            item = await ended(client, "traced")
    assert item["result"] == 42
    assert seen[0] is not None
    assert seen[0].split("-")[1] == TRACE
