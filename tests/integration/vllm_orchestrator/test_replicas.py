"""`replicas: n`: as many instances, each on cards of its own, all or none; one address, one DELETE."""

from collections import Counter
from pathlib import Path

import pytest

from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    ON_A_CARD,
    SMOLLM,
    gpu_host,
    ledger,
    orchestrator,
    until_status,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer


async def test_each_replica_has_a_card_of_its_own(
    nats_server: NatsServer, tmp_path: Path, vllm: None
) -> None:
    async with gpu_host(nats_server, tmp_path / "home") as (gpu, client):
        asked = {**ON_A_CARD, "replicas": 2}
        answer = await client.post("/api/v1/vllm/deploy", json=asked)
        assert (answer.status_code, answer.json()["instance_name"]) == (202, "qwen")
        both = [await until_status(client, name, "ready", "failed") for name in ("qwen", "qwen-r2")]
        assert [each["status"] for each in both] == ["ready", "ready"]
        assert {each["placement"][0]["gpu_indices"][0] for each in both} == {0, 1}
        assert both[1]["replica_of"] == "qwen"
        assert all("qwen" in each["served_names"] for each in both)
        again = await client.post("/api/v1/vllm/deploy", json=asked)
        assert again.status_code == 200
        assert (await client.get(INSTANCES)).json()["count"] == 2

        for _turn in range(4):
            body = {"model": "qwen", "prompt": "x", "max_tokens": 1}
            assert (await client.post("/v1/completions", json=body)).status_code == 200

        assert (await client.post(f"{INSTANCES}/qwen/stop")).status_code == 200
        stopped = (await client.get(INSTANCES)).json()["instances"]
        assert Counter(each["status"] for each in stopped) == {"stopped": 2}
        assert (await client.post(f"{INSTANCES}/qwen/start")).status_code == 202
        again_both = [await until_status(client, name, "ready") for name in ("qwen", "qwen-r2")]
        assert {each["placement"][0]["gpu_indices"][0] for each in again_both} == {0, 1}
        assert (await client.delete(f"{INSTANCES}/qwen")).status_code == 200
        assert (await client.get(INSTANCES)).json()["count"] == 0
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


async def test_more_replicas_than_cards_start_none(
    nats_server: NatsServer, tmp_path: Path, vllm: None
) -> None:
    async with gpu_host(nats_server, tmp_path / "home") as (gpu, client):
        config = {**ON_A_CARD, "replicas": 3}
        answer = await client.post("/api/v1/vllm/deploy", json=config)
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith("replica 3 of 3: ")
        assert (await client.get(INSTANCES)).json()["count"] == 0
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


@pytest.mark.engine
async def test_real_replicas_on_ram_share_a_host_that_is_the_only_one(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    body = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 1}
    async with ledger(nats_server, home), serving(orchestrator(nats_server, home)) as client:
        await client.post("/api/v1/vllm/deploy", json={**body, "replicas": 2})
        both = [await until_status(client, name, "ready") for name in ("smol", "smol-r2")]
        assert both[0]["endpoints"]["api"] != both[1]["endpoints"]["api"]
        prompt = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
        for _turn in range(2):
            answer = (await client.post("/v1/completions", json=prompt)).json()
            assert "Paris" in answer["choices"][0]["text"]
        await client.delete(f"{INSTANCES}/smol")
        assert (await client.get(INSTANCES)).json()["count"] == 0
