"""A host whose ledger sees GPUs. No GPU is here, so the engine is a stand-in that only speaks vLLM's HTTP."""

from pathlib import Path

import psutil
import pytest

from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    ON_A_CARD,
    engine_pid,
    gone,
    gpu_host,
    until_status,
)
from tests.support.nats import NatsServer


async def test_vllm_on_a_card(
    nats_server: NatsServer, tmp_path: Path, vllm: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_PASSWORD", "for us alone")
    home = tmp_path / "home"
    async with gpu_host(nats_server, home) as (gpu, client):
        answer = (await client.post("/api/v1/vllm/deploy", json=ON_A_CARD)).json()
        assert (answer["engine"], answer["strategy"]) == ("vllm", "SINGLE_GPU"), answer
        ready = await until_status(client, "qwen", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]

        place = ready["placement"][0]
        held = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert [(item["gpu_indices"], item["reserved_mb"]) for item in held] == [
            (place["gpu_indices"], place["reserved_mb"])
        ]
        pid = engine_pid(home, "qwen")
        environment = psutil.Process(pid).environ()
        assert environment["CUDA_VISIBLE_DEVICES"] == str(place["gpu_indices"][0])
        assert "NATS_PASSWORD" not in environment
        assert "--gpu-memory-utilization" in psutil.Process(pid).cmdline()

        # the second one finds the other card, the third none
        second = await client.post("/api/v1/vllm/deploy", json={**ON_A_CARD, "instance_name": "two"})
        assert second.json()["placement"][0]["gpu_indices"] != place["gpu_indices"]
        third = await client.post("/api/v1/vllm/deploy", json={**ON_A_CARD, "instance_name": "three"})
        assert third.status_code == 409
        assert third.json()["shortfall"]["short_mb_per_gpu"] > 0
        for name in ("qwen", "two"):
            await client.delete(f"{INSTANCES}/{name}")
        await gone(pid)
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0


async def test_without_vllm_the_plan_is_made_and_the_start_refused(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with gpu_host(nats_server, tmp_path / "home") as (gpu, client):
        answer = await client.post("/api/v1/vllm/deploy", json=ON_A_CARD)
        assert answer.status_code == 503
        assert "vllm is not on PATH" in answer.json()["detail"]
        planned = await client.post("/api/v1/vllm/deploy", json={**ON_A_CARD, "auto_start": False})
        assert planned.json()["status"] == "planned"
        service = planned.json()["docker_compose"]["services"]["qwen"]
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["0"]
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        # the demonstration model still runs, on RAM
        small = await client.post("/api/v1/vllm/deploy", json={"model_name": "smollm2", "dry_run": True})
        assert small.json()["engine"] == "llama_cpp"
