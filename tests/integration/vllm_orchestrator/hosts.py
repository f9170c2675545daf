"""An orchestrator beside the real ledger and the real registry, on one real NATS server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.tasks import end_tasks, every
from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings as GpuSettings
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from vllm_orchestrator.service import VllmOrchestrator
from vllm_orchestrator.settings import Settings

NODE = "host.one"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
ON_A_CARD = {"model_name": "Qwen/Qwen2.5-7B-Instruct", "instance_name": "qwen"}
TINY_LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 1024, "max_position_embeddings": 2048,
    "dtype": "bfloat16",
}  # fmt: skip
BEAT_SECONDS = 0.5
INSTANCES = "/api/v1/vllm/instances"
T = TypeVar("T")


def orchestrator(server: NatsServer, home: Path, node_id: str = NODE, **more: object) -> VllmOrchestrator:
    """The service with ports of its own, its state under `home`."""
    port = free_port()
    values: dict[str, Any] = {
        "NATS_URL": server.url,
        "NODE_ID": node_id,
        "COMPUTE_HOME": home,
        "VLLM_MODEL_PATH": home / "models",
        "ENGINE_PORTS": f"{port}-{min(port + 3, 65_535)}",
        "ENGINE_START_SECONDS": 60,
        **more,
    }
    return VllmOrchestrator(Settings(**values))


@asynccontextmanager
async def ledger(server: NatsServer, home: Path, node_id: str = NODE) -> AsyncIterator[httpx.AsyncClient]:
    """The real GPU orchestrator of the host."""
    values: dict[str, Any] = {"NATS_URL": server.url, "NODE_ID": node_id, "COMPUTE_HOME": home}
    async with serving(GpuOrchestrator(GpuSettings(**values))) as client:
        yield client


@asynccontextmanager
async def gpu_host(
    server: NatsServer, home: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """(the ledger over two 24 GB cards, the orchestrator beside it)."""
    ledger = gpu_orchestrator(home, server.url, two_gpus(), NODE)
    async with serving(ledger) as gpu, serving(orchestrator(server, home)) as client:
        yield gpu, client


@asynccontextmanager
async def registry(server: NatsServer) -> AsyncIterator[httpx.AsyncClient]:
    settings = RegistrySettings.model_validate({"NATS_URL": server.url, "NODE_ID": "registry"})
    async with serving(NodeRegistry(settings)) as client:
        yield client


@asynccontextmanager
async def beating(bus: Bus, node_id: str, **more: object) -> AsyncIterator[None]:
    """The node of a host, as its detector would announce it."""
    document = {"node_id": node_id, "hostname": node_id, "managed": True, "heartbeat_seconds": BEAT_SECONDS}

    async def beat() -> None:
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": node_id})

    await bus.publish(subjects.NODES_ANNOUNCE, document | more)
    task = asyncio.create_task(every(BEAT_SECONDS, beat))
    try:
        yield
    finally:
        await end_tasks([task])


def engine_pid(home: Path, name: str) -> int:
    """The engine's process, as the orchestrator under `home` recorded it."""
    return int(json.loads((home / "engines" / f"{name}.json").read_text())["pid"])


async def until(look: Callable[[], Awaitable[T]], good: Callable[[T], bool], seconds: float = 60) -> T:
    """Look until `good`; fails with what was last seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {seen}"
        await asyncio.sleep(0.05)


async def until_status(client: httpx.AsyncClient, name: str, *wanted: str, seconds: float = 60) -> Any:
    """The instance once it has one of these statuses."""

    async def look() -> Any:
        answer = await client.get(f"{INSTANCES}/{name}")
        return answer.json()

    return await until(look, lambda seen: seen.get("status") in wanted, seconds)


async def gone(pid: int, seconds: float = 10) -> None:
    """Wait until nothing of the group of `pid` lives."""

    async def look() -> list[int]:
        members = []
        for process in psutil.process_iter(["pid", "status", "cmdline"]):
            info = process.info
            if info["pid"] == pid and info["status"] != psutil.STATUS_ZOMBIE:
                members.append(info["pid"])
        return members

    await until(look, lambda members: not members, seconds)
