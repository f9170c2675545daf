"""Every NATS subject of every real service gets what nobody should send: refused, counted, and it goes on."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from benchmark_runner.service import BenchmarkRunner
from benchmark_runner.settings import Settings as BenchmarkSettings
from compute_cli.suite import SERVICES
from compute_common import subjects
from compute_common.bus import Bus
from compute_common.shell import Service, create_app
from compute_common.times import rfc3339, utc_now
from compute_node.job import Job
from compute_node.worker import Worker
from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings as GpuSettings
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings as DetectorSettings
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until
from tests.support.wild import messages
from vllm_orchestrator.service import VllmOrchestrator
from vllm_orchestrator.settings import Settings as VllmSettings
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings as WorkSettings

NODE = "box"
COUNT = 60
# A deployment asks around for a model that nobody has: fewer of those.
SLOW = {subjects.VLLM_REQUEST: 8, subjects.vllm_subject("pull", NODE): 8, subjects.VLLM_FILES: 8}
LIKELY: dict[str, Sequence[Any]] = {
    "node_id": (NODE, "other", "a.b", 3),
    "hostname": ("box", "x" * 300),
    "work_id": ("w-1", "w-2"),
    "model_name": ("tiny", "../x"),
    "event": ("ready", "removed", "joined"),
    "gpus": ([], [{"index": 0, "name": "\0", "vram_gb": 24}], [{}] * 40, "x"),
}


def made(name: str, server: NatsServer, folder: Path) -> Service:
    values: dict[str, Any] = {"NATS_URL": server.url, "NODE_ID": NODE, "COMPUTE_HOME": folder}
    match name:
        case "node-registry":
            return NodeRegistry(RegistrySettings.model_validate(values))
        case "resource-detector":
            return ResourceDetector(DetectorSettings.model_validate(values))
        case "vllm-orchestrator":
            models = values | {"VLLM_MODEL_PATH": folder / "models", "VLLM_RUNTIME": "process"}
            return VllmOrchestrator(VllmSettings.model_validate(models))
        case "work-marshaling":
            return WorkMarshaling(WorkSettings.model_validate(values))
        case "benchmark-runner":
            results = values | {"BENCHMARK_OUTPUT_DIR": folder / "results"}
            return BenchmarkRunner(BenchmarkSettings.model_validate(results))
    return GpuOrchestrator(GpuSettings.model_validate(values))


@pytest.mark.parametrize("name", [spec.name for spec in SERVICES])
async def test_no_message_ends_a_subscription_or_crashes_a_handler(
    name: str, nats_server: NatsServer, tmp_path: Path, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    service = made(name, nats_server, tmp_path)
    names = field_names(service)
    async with serving(service) as client:
        await until(lambda: ready(client), 20)
        subscriptions = [each for each in service.bus._subscriptions if each.subject.startswith("compute.")]
        answers: list[dict[str, Any]] = []
        inbox = bus.client.new_inbox()

        async def answered(msg: Msg) -> None:
            answers.append(json.loads(msg.data))

        await bus.client.subscribe(inbox, cb=answered)
        caplog.clear()
        sent = 0
        for each in subscriptions:
            subject = each.subject.replace("*", NODE)
            for data in messages(7, SLOW.get(subject, COUNT), names, **LIKELY):
                await bus.client.publish(subject, data, reply=inbox)
                sent += 1
        if name == "work-marshaling":
            await flood_the_log(bus, names)
        await until(lambda: handled(service) >= sent, 60)
        await bus.flush()
        assert [each.subject for each in subscriptions if each.live._closed] == []
        assert [answer for answer in answers if "error:internal" in str(answer.get("type"))] == []
        assert crashes(caplog) == []
        assert (await client.get("/readyz")).status_code == 200
        if subscriptions:
            assert 'outcome="rejected"' in (await client.get("/metrics")).text


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200


def handled(service: Service) -> float:
    """Messages that its handlers have dealt with, however."""
    return sum(
        sample.value
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "compute_bus_messages_total"
    )


async def flood_the_log(bus: Bus, names: Sequence[str]) -> None:
    """The work log is a stream that everybody writes; what is no event is passed over."""
    verbs = ("submit", "request", "assigned", "completed", "failed", "progress", "cancelled", "retried")
    log = [f"compute.work.{verb}.v1" for verb in (*verbs, "decided")]
    own = [subjects.node_subject(NODE, verb) for verb in ("completed", "failed", "progress", "assigned")]
    for number, subject in enumerate([*log, *own]):
        for data in messages(number, COUNT, names, **LIKELY):
            await bus.client.publish(subject, data)
    body = {"work_id": "good-1", "work_type": "inference", "payload": {"prompt": "x"}}
    await bus.publish(subjects.WORK_SUBMIT, body)

    async def seen() -> bool:
        answer = await bus.client.request(subjects.WORK_STATUS, b'{"work_id":"good-1"}', timeout=5)
        return bool(json.loads(answer.data).get("status") == "pending")

    await until(seen, 20)


async def test_a_worker_goes_on_after_any_message(
    nats_server: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(NODE, nats_url=nats_server.url, announce=False)
    done: list[str] = []

    @worker.handles("good")
    async def good(job: Job) -> dict[str, Any]:
        done.append(job.work_id)
        return {}

    await worker.start()
    assert await worker.bus.wait_connected(5)
    await worker.bus.flush()
    try:
        names = ("work_id", "node_id", "attempt", "epoch", "payload", "work_type", "timeout_seconds", "v")
        own = [subjects.node_subject(NODE, verb) for verb in ("assigned", "cancelled", "reannounce")]
        for subject in (subjects.WORK_ASSIGNED, subjects.WORK_CANCELLED, subjects.NODES_REANNOUNCE, *own):
            for data in messages(3, COUNT, names, **LIKELY):
                await bus.client.publish(subject, data)
        order = {
            "work_id": "w-good", "request_id": "w-good", "node_id": NODE, "attempt": 1, "epoch": 1 << 53,
            "work_type": "good", "workload_type": "good", "priority": 5, "payload": {}, "timeout_seconds": 30,
            "assigned_at": rfc3339(utc_now()), "lease_expires_at": rfc3339(utc_now()),
            "expires_at": rfc3339(utc_now()),
        }  # fmt: skip
        await bus.publish(subjects.WORK_ASSIGNED, order)
        await until(lambda: "w-good" in done)
        assert crashes(caplog) == []
    finally:
        await worker.stop()


def crashes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What went wrong inside, as the log tells."""
    return [
        record.getMessage()[:500] + str(record.exc_info or "")
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def field_names(service: Service) -> list[str]:
    """Every field that the service's own documents name, and those of the wire."""
    schemas = create_app(service).openapi()["components"]["schemas"].values()
    found = {name for schema in schemas for name in schema.get("properties", {})}
    return sorted(found | {"v", "epoch", "attempt", "drain", "node", "instance", "result", "error", "reason"})
