"""An engine nobody asks gives its memory back, and whoever asks next gets his answer all the same."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.times import rfc3339, utc_now
from compute_node.program import NodeProgram
from compute_node.settings import NodeSettings
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    NODE,
    SMOLLM,
    engine_pid,
    gone,
    ledger,
    orchestrator,
    registry,
    until,
    until_status,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(90)]
IDLE_SECONDS = 1.5
DEPLOY = {
    "model_name": SMOLLM,
    "instance_name": "smol",
    "max_model_len": 512,
    "max_num_seqs": 2,
    "idle_timeout_seconds": IDLE_SECONDS,
}
PROMPT = {"model": "smollm2", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}


async def asleep(client: httpx.AsyncClient, gpu: httpx.AsyncClient) -> Any:
    seen = await until_status(client, "smol", "stopped", "failed")
    assert seen["status"] == "stopped", seen["last_error"]
    assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
    return seen


async def test_unloaded_when_idle_and_woken_by_the_gateway(nats_server: NatsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    service = orchestrator(nats_server, home)
    async with ledger(nats_server, home) as gpu:
        async with serving(service) as client:
            await client.post("/api/v1/vllm/deploy", json=DEPLOY)
            await until_status(client, "smol", "ready")
            pid = engine_pid(home, "smol")
            for _turn in range(6):  # longer than the timeout, but never idle so long
                assert (await client.post("/v1/completions", json=PROMPT)).status_code == 200
                await asyncio.sleep(IDLE_SECONDS / 4)
            assert (await client.get(f"{INSTANCES}/smol")).json()["status"] == "ready"

            idle = await asleep(client, gpu)
            await gone(pid)
            assert idle["wakeable"] is True
            assert "the next request starts it again" in idle["stop_reason"]
            assert "smollm2" in {item["id"] for item in (await client.get("/v1/models")).json()["data"]}

            asked = (client.post("/v1/completions", json=PROMPT) for _request in range(5))
            for answer in await asyncio.gather(*asked):
                assert "Paris" in answer.json()["choices"][0]["text"]
            woken = (await client.get(f"{INSTANCES}/smol")).json()
            assert (woken["status"], woken["wakeable"]) == ("ready", False)
            await asleep(client, gpu)
        async with serving(orchestrator(nats_server, home)) as client:  # a restart does not forget it
            await until_status(client, "smol", "stopped")
            assert "Paris" in (await client.post("/v1/completions", json=PROMPT)).text
            assert (await client.post(f"{INSTANCES}/smol/stop")).status_code == 200
            refused = await client.post("/v1/completions", json=PROMPT)
            assert refused.status_code == 404  # what a user stopped stays stopped
            await client.delete(f"{INSTANCES}/smol")


@asynccontextmanager
async def node_program(server: NatsServer) -> AsyncIterator[None]:
    settings = NodeSettings.model_validate({"NATS_URL": server.url, "NODE_ID": NODE})
    running = asyncio.create_task(NodeProgram(settings).run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_work_item_wakes_it(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    """As the queue assigns it: to a node that serves the model, asleep or not."""
    home = tmp_path / "home"
    done: list[Any] = []

    async def hear(body: Any) -> None:
        done.append(body)

    async def offered() -> bool:
        answer = await bus.request(subjects.NODES_QUERY, {"online_only": False})
        nodes = {node["node_id"]: node for node in answer["nodes"]}
        return "smollm2" in (nodes.get(NODE, {}).get("supported_models") or [])

    await bus.subscribe(subjects.WORK_COMPLETED, hear)
    await bus.subscribe(subjects.WORK_FAILED, hear)
    async with (
        registry(nats_server),
        ledger(nats_server, home) as gpu,
        serving(orchestrator(nats_server, home)) as client,
        node_program(nats_server),
    ):
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": NODE, "hostname": NODE, "managed": True})
        await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        await until_status(client, "smol", "ready")
        await asleep(client, gpu)
        await until(offered, bool, 5)
        later = rfc3339(utc_now() + timedelta(seconds=60))
        times = {"assigned_at": rfc3339(utc_now()), "lease_expires_at": later, "expires_at": later}
        for number in range(2):
            item = {
                "work_id": f"w-{number}",
                "request_id": f"w-{number}",
                "node_id": NODE,
                "attempt": 1,
                "epoch": 1,
                "work_type": "inference",
                "workload_type": "inference",
                "model_name": "smollm2",
                "priority": 5,
                "payload": {"prompt": PROMPT["prompt"], "max_tokens": 4, "temperature": 0},
                "timeout_seconds": 60,
                **times,
            }
            await bus.publish(subjects.WORK_ASSIGNED, item)

        async def both() -> int:
            return len(done)

        await until(both, lambda count: count == 2, 30)
        assert all("Paris" in body["result"]["text"] for body in done), done
        await client.delete(f"{INSTANCES}/smol")
