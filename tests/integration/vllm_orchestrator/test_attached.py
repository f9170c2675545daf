"""Servers that already run: what they serve is found out, routed to, and never stopped."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.vllm_orchestrator.hosts import INSTANCES, orchestrator, until
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.scripted_engine import ScriptedEngine
from vllm_orchestrator.engines.binary import find_llama_server
from vllm_orchestrator.models.resolve import demo_gguf

ATTACH = "/api/v1/vllm/attach"
OLLAMA = ("llama3.2:latest", "qwen2.5:7b")


@asynccontextmanager
async def llama_server() -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """A real llama-server that somebody else started."""
    port, model = free_port(), demo_gguf()
    argv = [str(find_llama_server(None)), "-m", str(model), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["-c", "1024", "-np", "2", "--alias", "theirs"]
    quiet = subprocess.DEVNULL
    process = await asyncio.to_thread(subprocess.Popen, argv, stdout=quiet, stderr=quiet)
    try:
        async with httpx.AsyncClient() as client:

            async def health() -> int:
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/health")).status_code
                except httpx.HTTPError:
                    return 0

            await until(health, lambda code: code == 200, 60)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


@pytest.mark.engine
async def test_a_real_server_is_routed_to_and_outlives_us(nats_server: NatsServer, tmp_path: Path) -> None:
    async with llama_server() as (process, url):
        async with serving(orchestrator(nats_server, tmp_path)) as client:
            attached = (await client.post(ATTACH, json={"endpoint": url})).json()
            assert (attached["instance_name"], attached["engine"]) == ("theirs", "llama_cpp"), attached
            assert attached["served_names"] == ["theirs"]
            assert attached["endpoints"]["health"] == f"{url}/health"
            assert attached["endpoints"]["metrics"] is None, "this one was started without --metrics"
            body = {"model": "theirs", "prompt": "The capital of France is", "max_tokens": 4}
            answer = await client.post("/v1/completions", json=body)
            assert "Paris" in answer.json()["choices"][0]["text"]
            for ending in (client.post(f"{INSTANCES}/theirs/stop"), client.delete(f"{INSTANCES}/theirs")):
                assert (await ending).status_code in (200, 404)
            assert (await client.get(f"{INSTANCES}/theirs")).status_code == 404
        assert process.poll() is None


async def test_a_server_like_ollama_is_asked_by_its_own_names(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Many models, no /health, no /metrics, and 404 for any name but its own."""
    engine = ScriptedEngine(models=OLLAMA, owned_by="library", has_health=False)
    async with engine.running(), serving(orchestrator(nats_server, tmp_path)) as client:
        whole = (await client.post(ATTACH, json={"endpoint": engine.url, "instance_name": "ollama"})).json()
        assert whole["engine"] == "llama_cpp"
        assert whole["endpoints"] == {
            "api": f"{engine.url}/v1",
            "health": f"{engine.url}/v1/models",
            "metrics": None,
        }
        asked = {
            "ollama": OLLAMA[0],
            "qwen2.5:7b": OLLAMA[1],
            "LLAMA3.2": OLLAMA[0],
            "llama3.2:latest": OLLAMA[0],
        }
        for name, own in asked.items():
            answer = await client.post("/v1/chat/completions", json={"model": name, "messages": []})
            assert answer.status_code == 200, (name, answer.text)
            assert engine.bodies[-1]["model"] == own

        one = {"endpoint": f"{engine.url}/v1/", "model_name": "llama3.2", "instance_name": "one"}
        assert (await client.post(ATTACH, json=one)).json()["config"]["model"] == "llama3.2:latest"
        missing = await client.post(ATTACH, json={**one, "model_name": "mistral", "instance_name": "two"})
        assert (missing.status_code, missing.json()["type"]) == (422, "urn:compute:error:not-served")
        assert "it serves llama3.2:latest, qwen2.5:7b" in missing.json()["detail"]


async def test_one_that_goes_away_is_degraded_and_comes_back(nats_server: NatsServer, tmp_path: Path) -> None:
    service = orchestrator(nats_server, tmp_path, INSTANCE_REPEAT_SECONDS=0.2)
    async with serving(service) as client:

        async def look() -> Any:
            return (await client.get(f"{INSTANCES}/tiny")).json()["status"]

        async with ScriptedEngine().running() as engine:
            assert (await client.post(ATTACH, json={"endpoint": engine.url})).json()["engine"] == "vllm"
            port = engine.port
        await until(look, lambda status: status == "degraded", 10)
        async with ScriptedEngine().running(port):
            await until(look, lambda status: status == "ready", 10)
            back = (await client.get(f"{INSTANCES}/tiny")).json()
        assert back["last_error"] == "the attached server does not answer"
        assert back["last_error_at"] > back["created_at"]


async def test_at_another_node(nats_server: NatsServer, tmp_path: Path) -> None:
    """Its loopback is meant; its own orchestrator looks, keeps and forgets the server."""
    one = orchestrator(nats_server, tmp_path / "one", "one")
    two = orchestrator(nats_server, tmp_path / "two", "two")
    async with ScriptedEngine().running() as engine, serving(one) as here, serving(two) as there:
        body = {"endpoint": engine.url, "node_id": "two"}
        answer = await here.post(ATTACH, json=body)
        assert (answer.status_code, answer.json()["node_id"]) == (201, "two"), answer.text
        assert [record.instance_name for record in two.table.own()] == ["tiny"]
        assert one.table.own() == []
        assert (await there.get(f"{INSTANCES}/tiny")).json()["status"] == "ready"
        chat = {"model": "tiny", "messages": []}
        assert (await here.post("/v1/chat/completions", json=chat)).status_code == 200
        refused = await here.post(ATTACH, json={**body, "endpoint": "http://192.0.2.1:8000"})
        assert (refused.status_code, refused.json()["type"][-20:]) == (422, "endpoint-not-allowed")
        nobody = await here.post(ATTACH, json={**body, "node_id": "three"})
        assert nobody.json()["type"] == "urn:compute:error:unknown-node"
        assert (await here.delete(f"{INSTANCES}/tiny")).status_code == 200
        assert two.table.own() == []


@pytest.mark.parametrize(
    "endpoint",
    ["http://192.0.2.1:8000", "http://user:pw@127.0.0.1:1", "http://127.0.0.1:1/admin", "http://127.0.0.1:1"],
)
async def test_what_may_not_be_attached(nats_server: NatsServer, tmp_path: Path, endpoint: str) -> None:
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        refused = await client.post(ATTACH, json={"endpoint": endpoint})
        assert refused.status_code == 422
        assert (await client.get(INSTANCES)).json()["count"] == 0
