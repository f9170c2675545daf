"""A host given back to its owner: its instances make room within seconds, and come back by themselves."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common.times import rfc3339, utc_now
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    NODE,
    ON_A_CARD,
    SMOLLM,
    ledger,
    orchestrator,
    until,
    until_status,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer

YIELDS = "/api/v1/gpu/yields"
DEPLOY = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}


async def held(gpu: httpx.AsyncClient) -> int:
    return int((await gpu.get("/api/v1/gpu/reservations")).json()["count"])


@pytest.mark.engine
async def test_a_real_engine_makes_room_and_comes_back_at_the_deadline(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """RAM of a host without GPU; what the engine is answering is answered to its end."""
    home = tmp_path / "home"
    async with ledger(nats_server, home) as gpu, serving(orchestrator(nats_server, home)) as client:
        await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        ready = await until_status(client, "smol", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]

        async def long_answer() -> Any:
            body = {"model": "smol", "prompt": "Once upon a time", "max_tokens": 150, "ignore_eos": True}
            async with httpx.AsyncClient(timeout=60) as direct:
                return (await direct.post(f"{ready['endpoints']['api']}/completions", json=body)).json()

        asked = asyncio.create_task(long_answer())
        await asyncio.sleep(0.2)  # the engine has begun
        began = time.monotonic()
        until_then = rfc3339(utc_now() + timedelta(seconds=8))
        yielded = (await gpu.post(YIELDS, json={"until": until_then})).json()
        assert [(each["gpu_index"], each["until"]) for each in yielded["yields"]] == [(None, until_then)]

        aside = await until_status(client, "smol", "stopped")
        assert time.monotonic() - began < 7
        assert "is yielded to its owner" in aside["last_error"]
        assert (await asked)["usage"]["completion_tokens"] == 150
        assert await held(gpu) == 0
        refused = await gpu.post("/api/v1/gpu/reserve", json={"gpu_indices": [], "required_mb": 1})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:compute:error:yielded")
        nowhere = await client.post("/api/v1/vllm/deploy", json={**DEPLOY, "instance_name": "other"})
        assert nowhere.status_code == 409

        back = await until_status(client, "smol", "ready", "failed")
        assert back["status"] == "ready", back["last_error"]
        assert time.monotonic() - began >= 7
        assert await held(gpu) == 1
        await client.delete(f"{INSTANCES}/smol")


async def test_only_the_card_that_is_asked_for_and_across_restarts(
    nats_server: NatsServer, tmp_path: Path, vllm: None
) -> None:
    """Both services are restarted while the card is away; what a user stopped meanwhile stays stopped."""
    home = tmp_path / "home"

    def gpus() -> Any:
        return serving(gpu_orchestrator(home, nats_server.url, two_gpus(), NODE))

    async with gpus() as gpu, serving(orchestrator(nats_server, home)) as client:
        for name in ("one", "two"):
            await client.post("/api/v1/vllm/deploy", json={**ON_A_CARD, "instance_name": name})
            await until_status(client, name, "ready")
        one = (await client.get(f"{INSTANCES}/one")).json()["placement"][0]["gpu_indices"]
        await gpu.post(YIELDS, json={"gpu_indices": one})
        await until_status(client, "one", "stopped")
        assert (await client.get(f"{INSTANCES}/two")).json()["status"] == "ready"
        states = (await gpu.get("/api/v1/gpu/states")).json()["gpus"]
        assert [each["index"] for each in states if each["cordoned"]] == one
        await gpu.post(YIELDS, json={})  # the other one, too
        await until_status(client, "two", "stopped")
    async with gpus() as gpu, serving(orchestrator(nats_server, home)) as client:
        standing = (await gpu.get(YIELDS)).json()["yields"]
        assert sorted(each["gpu_index"] for each in standing) == [0, 1]
        await until_status(client, "two", "stopped")  # it has read its records
        stopped = await client.post(f"{INSTANCES}/two/stop")
        assert stopped.status_code == 200, stopped.text
        assert (await gpu.post(f"{YIELDS}/end", json={})).json()["yields"] == []
        await until_status(client, "one", "ready")
        assert (await client.get(f"{INSTANCES}/two")).json()["status"] == "stopped"
        await client.delete(f"{INSTANCES}/one")
        await until(lambda: held(gpu), lambda count: count == 0)
