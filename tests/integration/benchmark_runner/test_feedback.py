"""What was measured moves work: registry, queue and benchmark runner together, two nodes of unlike speed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from compute_common import subjects
from compute_common.bus import Bus
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.benchmark_runner.runners import counting, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.integration.benchmark_runner.test_targets_over_nats import put_instance
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings as QueueSettings

MODEL = "org/Tiny-Model"
# Of two nodes equally free the queue takes the one whose name comes last, when it knows nothing better.
FAST, SLOW = "node-a", "node-b"


@asynccontextmanager
async def three_services(
    url: str, folder: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient, httpx.AsyncClient]]:
    common = {"NATS_URL": url, "NODE_ID": "test-host"}
    async with AsyncExitStack() as stack:
        registry = NodeRegistry(RegistrySettings.model_validate(common))
        queue = WorkMarshaling(QueueSettings.model_validate(common))
        first = await stack.enter_async_context(serving(registry))
        second = await stack.enter_async_context(serving(queue))
        await until(queue.is_ready)
        yield first, second, await stack.enter_async_context(serving(runner(folder, url)))


async def _workers(bus: Bus) -> None:
    """Both nodes answer at once."""

    async def work(item: dict[str, Any]) -> None:
        done = {
            "work_id": item["work_id"],
            "node_id": item["node_id"],
            "attempt": item["attempt"],
            "result": {},
        }
        await bus.publish(subjects.WORK_COMPLETED, done)

    await bus.subscribe(subjects.WORK_ASSIGNED, work)
    await bus.flush()


async def _goes_to(queue: httpx.AsyncClient, model: str) -> str:
    body = {"work_type": "inference", "model_name": model, "payload": {}}
    work_id = (await queue.post("/api/v1/work/submit", json=body)).json()["work_id"]
    item = (await queue.get(f"/api/v1/work/{work_id}", params={"wait": 10})).json()
    assert item["status"] == "completed", item
    return str(item["assigned_node"])


async def test_work_moves_to_the_node_that_was_measured_faster(
    tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    async with (
        scripted(Script(ttft=0.002, gap=0.001)) as fast,
        scripted(Script(ttft=0.02, gap=0.02)) as slow,
        three_services(nats_server.url, tmp_path) as (registry, queue, benchmarks),
    ):
        await _workers(bus)
        for node_id, server in ((FAST, fast), (SLOW, slow)):
            document = {
                "node_id": node_id,
                "hostname": node_id,
                "slots": 1,
                "work_types": ["inference"],
                "supported_models": [MODEL, "tiny-of-all"],
            }
            assert (await registry.post("/api/v1/nodes/register", json=document)).status_code == 200
            await put_instance(bus, f"tiny-{node_id}", server, node_id=node_id)
        assert await _goes_to(queue, MODEL) == SLOW
        for node_id in (SLOW, FAST):
            ask = {
                "model_name": "whatever I call it",
                "instance_name": f"tiny-{node_id}",
                "context_lengths": [8],
                "output_tokens": 8,
                "background": False,
            }
            assert (await counting(benchmarks, ask))["node_id"] == node_id

        async def measured() -> bool:
            answer = (await registry.get(f"/api/v1/nodes/{FAST}")).json()
            return any(item["model"] == MODEL for item in answer["measured"])

        await until(measured)

        async def moved() -> bool:
            return await _goes_to(queue, MODEL) == FAST

        await until(moved)
        assert await _goes_to(queue, MODEL) == FAST
        found = (await registry.get("/api/v1/nodes", params={})).json()["nodes"]
        speeds = {node["node_id"]: node["measured"][0]["output_tokens_per_s"] for node in found}
        assert speeds[FAST] > 4 * speeds[SLOW]
