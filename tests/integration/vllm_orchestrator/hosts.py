"""An orchestrator beside the real ledger, on one real NATS server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings as GpuSettings
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from vllm_orchestrator.service import VllmOrchestrator
from vllm_orchestrator.settings import Settings

NODE = "host.one"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
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
