"""A deployment whose files are not here gets them first, and is refused where they cannot be had."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    NODE,
    engine_pid,
    gone,
    orchestrator,
    until,
    until_status,
)
from tests.integration.vllm_orchestrator.stand_in import put_on_path
from tests.support.apps import serving
from tests.support.hub import HubStandIn
from tests.support.nats import NatsServer

NAME = "Qwen/Qwen2.5-7B-Instruct"
MODEL = {"config.json": b"{}", "model.safetensors": os.urandom(1 << 20)}
DEPLOY = {"model_name": NAME, "instance_name": "qwen"}


@asynccontextmanager
async def gpu_host(
    server: NatsServer, home: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """An orchestrator beside a ledger over two cards, with a stand-in for vLLM and an empty model folder."""
    put_on_path(monkeypatch, home / "bin")
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    service = orchestrator(server, home, HF_ENDPOINT=hub.url, VLLM_MODEL_PATH=home / "models")
    ledger = gpu_orchestrator(home, server.url, two_gpus(), NODE)
    async with serving(ledger), serving(service) as client:
        yield client


async def test_the_engine_starts_on_what_was_downloaded(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubStandIn({NAME: MODEL}, block_seconds=0.03)
    async with hub.running(), gpu_host(nats_server, tmp_path, hub, monkeypatch) as client:
        answer = await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        assert answer.status_code == 202, answer.text

        async def look() -> Any:
            return (await client.get(f"{INSTANCES}/qwen")).json()

        def is_coming(seen: Any) -> bool:
            progress = seen["progress"] or {}
            return progress.get("phase") == "downloading" and 0 < progress["bytes"] < 1 << 20

        coming = await until(look, is_coming, 20)
        assert coming["status"] == "starting"
        ready = await until_status(client, "qwen", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]
        pid = engine_pid(tmp_path, "qwen")
        argv = psutil.Process(pid).cmdline()
        folder = str(tmp_path / "models" / NAME)
        assert argv[argv.index("serve") + 1] == folder
        assert NAME in argv, "it is still served under its name"
        assert ready["config"]["model"] == folder
        await client.delete(f"{INSTANCES}/qwen")
        await gone(pid)


async def test_a_gated_model_is_refused_before_anything_starts(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = HubStandIn({NAME: MODEL}, gated={NAME})
    async with hub.running(), gpu_host(nats_server, tmp_path, hub, monkeypatch) as client:
        refused = await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:compute:error:gated-model")
        assert "set HF_TOKEN on this host" in refused.json()["detail"]
        assert (await client.get(INSTANCES)).json()["count"] == 0


async def test_without_a_hub_the_engine_is_left_to_its_own_cache(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gpu_host(nats_server, tmp_path, HubStandIn(port=9), monkeypatch) as client:
        assert (await client.post("/api/v1/vllm/deploy", json=DEPLOY)).status_code == 202
        ready = await until_status(client, "qwen", "ready", "failed")
        assert (ready["status"], ready["config"]["model"]) == ("ready", NAME), ready["last_error"]
        pid = engine_pid(tmp_path, "qwen")
        await client.delete(f"{INSTANCES}/qwen")
        await gone(pid)
