"""A host whose ledger sees GPUs. No GPU is here, so the engine is a stand-in that only speaks vLLM's HTTP."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.gpu_orchestrator.hosts import two_gpus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, NODE, gone, orchestrator, until_status
from tests.support.apps import serving
from tests.support.nats import NatsServer

STAND_IN = f"""#!{sys.executable}
# Stands in for `vllm` in a test of the orchestrator: health, models, completions, and nothing else of vLLM.
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self): self.answer({{}})
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer({{"choices": [{{"text": "x", "finish_reason": "length"}}]}})
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
MODEL = {"model_name": "Qwen/Qwen2.5-7B-Instruct", "instance_name": "qwen"}


@asynccontextmanager
async def gpu_host(
    server: NatsServer, home: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """(the ledger over two 24 GB cards, the orchestrator beside it)."""
    ledger = gpu_orchestrator(home, server.url, two_gpus(), NODE)
    async with serving(ledger) as gpu, serving(orchestrator(server, home)) as client:
        yield gpu, client


async def test_vllm_on_a_card(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "bin" / "vllm"
    binary.parent.mkdir()
    binary.write_text(STAND_IN)
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(binary.parent))
    monkeypatch.setenv("NATS_PASSWORD", "for us alone")
    home = tmp_path / "home"
    async with gpu_host(nats_server, home) as (gpu, client):
        answer = (await client.post("/api/v1/vllm/deploy", json=MODEL)).json()
        assert (answer["engine"], answer["strategy"]) == ("vllm", "SINGLE_GPU"), answer
        ready = await until_status(client, "qwen", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]

        place = ready["placement"][0]
        held = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert [(item["gpu_indices"], item["reserved_mb"]) for item in held] == [
            (place["gpu_indices"], place["reserved_mb"])
        ]
        pid = json.loads((home / "engines" / "qwen.json").read_text())["pid"]
        environment = psutil.Process(pid).environ()
        assert environment["CUDA_VISIBLE_DEVICES"] == str(place["gpu_indices"][0])
        assert "NATS_PASSWORD" not in environment
        assert "--gpu-memory-utilization" in psutil.Process(pid).cmdline()

        # the second one finds the other card, the third none
        second = await client.post("/api/v1/vllm/deploy", json={**MODEL, "instance_name": "two"})
        assert second.json()["placement"][0]["gpu_indices"] != place["gpu_indices"]
        third = await client.post("/api/v1/vllm/deploy", json={**MODEL, "instance_name": "three"})
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
        answer = await client.post("/api/v1/vllm/deploy", json=MODEL)
        assert answer.status_code == 503
        assert "vllm is not on PATH" in answer.json()["detail"]
        planned = await client.post("/api/v1/vllm/deploy", json={**MODEL, "auto_start": False})
        assert planned.json()["status"] == "planned"
        service = planned.json()["docker_compose"]["services"]["qwen"]
        assert service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["0"]
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        # the demonstration model still runs, on RAM
        small = await client.post("/api/v1/vllm/deploy", json={"model_name": "smollm2", "dry_run": True})
        assert small.json()["engine"] == "llama_cpp"
