"""From a host's memory to the planner and the scheduler: five services on one real NATS server."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings as DetectorSettings
from tests.integration.gpu_orchestrator.hosts import Readings, orchestrator
from tests.integration.vllm_orchestrator import hosts as vllm
from tests.integration.work_marshaling import cluster
from tests.support.apps import serving
from tests.support.hearing import messages_on
from tests.support.nats import NatsServer
from tests.support.waiting import until

NODE = vllm.NODE
A_FEW_SECONDS = 4


@dataclass
class Suite:
    readings: Readings
    memory: httpx.AsyncClient
    registry: httpx.AsyncClient
    planner: httpx.AsyncClient
    queue: httpx.AsyncClient

    def available(self, mib: int) -> None:
        self.readings.ram = replace(self.readings.ram, available_mb=mib)

    async def level(self) -> str:
        answer = await self.registry.get(f"/api/v1/nodes/{NODE}")
        return str(answer.json().get("memory_level"))

    async def until_level(self, level: str, seconds: float) -> None:
        async def reached() -> bool:
            return await self.level() == level

        await until(reached, seconds)


@pytest.fixture
async def suite(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Suite]:
    """The five services, and a worker that takes work of type `test` there."""
    readings = Readings()
    common: dict[str, Any] = {"NATS_URL": nats_server.url, "NODE_ID": NODE, "COMPUTE_HOME": tmp_path}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        registry = await enter(serving(NodeRegistry(RegistrySettings(**common))))
        _, queue = await enter(cluster.marshaling(nats_server.url))
        memory = await enter(serving(orchestrator(tmp_path, nats_server.url, readings, NODE)))
        await enter(serving(ResourceDetector(DetectorSettings(**common))))
        planner = await enter(serving(vllm.orchestrator(nats_server, tmp_path)))
        both = Suite(readings, memory, registry, planner, queue)
        await both.until_level("ok", 10)
        await bus.publish(
            subjects.NODES_ANNOUNCE,
            {"node_id": NODE, "hostname": "one", "work_types": ["test"], "slots": 4},
        )
        yield both


async def test_a_critical_host_gets_nothing_new_until_it_is_well_again(suite: Suite, bus: Bus) -> None:
    warnings = await messages_on(bus, subjects.GPU_MEMORY_WARNING)
    first = await cluster.submit(suite.queue)
    await _until_status(suite, first, "assigned")

    suite.available(100)
    await suite.until_level("critical", A_FEW_SECONDS)
    assert [(each["level"], each["gpu_index"]) for each in warnings] == [("critical", None)]
    assert (await suite.memory.get("/api/v1/gpu/memory")).json()["level"] == "critical"
    metrics = (await suite.memory.get("/metrics")).text
    assert f'compute_memory_level{{device="ram",node_id="{NODE}"}} 3.0' in metrics
    assert f'compute_memory_predicted_oom_seconds{{device="ram",node_id="{NODE}"}} +Inf' in metrics
    plan = await suite.planner.post("/api/v1/vllm/plan", json={"model_name": vllm.SMOLLM})
    assert plan.json()["fits"] is False
    assert f"{NODE}: it is about to run out of memory" in plan.json()["explanation"]
    deploy = await suite.planner.post("/api/v1/vllm/deploy", json={"model_name": vllm.SMOLLM})
    assert deploy.status_code == 409
    assert f"{NODE}: it is about to run out of memory" in deploy.json()["detail"]
    second = await cluster.submit(suite.queue)
    item = (await suite.queue.get(f"/api/v1/work/{second}")).json()
    assert item["status"] == "pending"
    assert "about to run out of memory" in item["waiting_for"]

    suite.available(12_000)
    await suite.until_level("ok", 10 + A_FEW_SECONDS)  # ten seconds of calm
    await _until_status(suite, second, "assigned")
    plan = await suite.planner.post("/api/v1/vllm/plan", json={"model_name": vllm.SMOLLM})
    assert "out of memory" not in plan.json()["explanation"]


async def _until_status(suite: Suite, work_id: str, status: str) -> None:
    async def look() -> str:
        return str((await suite.queue.get(f"/api/v1/work/{work_id}")).json()["status"])

    await vllm.until(look, lambda seen: seen == status, 5)
