"""Two hosts of two cards each; no GPU is here: their ledgers and the registry are told so."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from compute_common.bus import Bus
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import beating, engine_pid, orchestrator, registry
from tests.support.apps import serving
from tests.support.nats import NatsServer
from vllm_orchestrator.service import VllmOrchestrator

HEAD, TAIL = "host-a", "host-b"
MODEL = {"model_name": "Qwen/Qwen2.5-32B-Instruct", "instance_name": "qwen", "max_model_len": 4096}


@dataclass
class Pair:
    """Two hosts of two 24 GB cards each, as the registry and their ledgers tell."""

    gpus: dict[str, httpx.AsyncClient]
    head: httpx.AsyncClient
    services: dict[str, VllmOrchestrator]
    homes: dict[str, Path]

    def pid(self, node_id: str) -> int:
        return engine_pid(self.homes[node_id], "qwen")

    async def reserved(self) -> list[int]:
        answers = [await gpu.get("/api/v1/gpu/reservations") for gpu in self.gpus.values()]
        return [answer.json()["count"] for answer in answers]


@asynccontextmanager
async def two_hosts(server: NatsServer, folder: Path, bus: Bus) -> AsyncIterator[Pair]:
    """Both serve, beside their ledgers and a registry that knows them."""
    homes = {node_id: folder / node_id for node_id in (HEAD, TAIL)}
    services = {
        node_id: orchestrator(server, home, node_id, INSTANCE_REPEAT_SECONDS=1)
        for node_id, home in homes.items()
    }
    ledgers = {
        node_id: gpu_orchestrator(home, server.url, two_gpus(), node_id) for node_id, home in homes.items()
    }
    async with (
        registry(server),
        present(bus, HEAD),
        present(bus, TAIL),
        serving(ledgers[HEAD]) as gpu_a,
        serving(ledgers[TAIL]) as gpu_b,
        serving(services[HEAD]) as head,
        serving(services[TAIL]),
    ):
        yield Pair({HEAD: gpu_a, TAIL: gpu_b}, head, services, homes)


def present(bus: Bus, node_id: str) -> AbstractAsyncContextManager[None]:
    """The node of a host with two cards, as its detector would announce it."""
    gpus = [{"index": index, "name": "RTX 3090", "vram_mb": 24_576} for index in range(2)]
    return beating(bus, node_id, ipv4="127.0.0.1", gpus=gpus, memory={"total_gb": 64})


@asynccontextmanager
async def one_host(
    server: NatsServer, home: Path, bus: Bus, node_id: str
) -> AsyncIterator[tuple[VllmOrchestrator, httpx.AsyncClient, httpx.AsyncClient]]:
    """(orchestrator, its client, its ledger's client) of a host with two cards."""
    service = orchestrator(
        server, home, node_id, INSTANCE_REPEAT_SECONDS=1, INSTANCE_TAKEOVER_SECONDS=2, ENGINE_STOP_SECONDS=1
    )
    ledger = gpu_orchestrator(home, server.url, two_gpus(), node_id)
    async with present(bus, node_id), serving(ledger) as gpu, serving(service) as client:
        yield service, client, gpu
