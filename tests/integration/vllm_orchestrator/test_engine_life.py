"""A real llama-server with the real 135M model, through its whole life."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compute_common import subjects
from compute_common.bus import Bus, Message
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    SMOLLM,
    gone,
    ledger,
    orchestrator,
    until,
    until_status,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer
from vllm_orchestrator.models.resolve import demo_gguf

pytestmark = pytest.mark.engine
DEPLOY = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}


def engine_file(home: Path, name: str = "smol") -> Any:
    return json.loads((home / "engines" / f"{name}.json").read_text())


async def ask(api: str, model: str = "smol") -> str:
    body = {"model": model, "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{api}/completions", json=body)
    assert answer.status_code == 200
    return str(answer.json()["choices"][0]["text"])


async def test_from_deploy_to_nothing_left(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    events: list[Message] = []

    async def note(event: Message) -> None:
        events.append(event)

    await bus.subscribe(subjects.VLLM_INSTANCE, note)
    home = tmp_path / "home"
    async with ledger(nats_server, home) as gpu, serving(orchestrator(nats_server, home)) as client:
        answer = await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        assert answer.status_code == 202, answer.text
        planned = answer.json()
        assert planned["engine"] == "llama_cpp"
        assert planned["strategy"] == "CPU"

        ready = await until_status(client, "smol", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]
        assert "Paris" in await ask(ready["endpoints"]["api"])
        assert (ready["last_error"], ready["last_error_at"]) == (None, None)

        pid = engine_file(home)["pid"]
        held = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert [item["state"] for item in held] == ["bound"]
        assert held[0]["reserved_mb"] == planned["placement"][0]["reserved_mb"]
        assert psutil.Process(pid).memory_info().rss <= held[0]["reserved_mb"] << 20

        same = await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        assert (same.status_code, same.json()["instance_name"]) == (200, "smol")
        other = await client.post("/api/v1/vllm/deploy", json={**DEPLOY, "max_model_len": 256})
        assert other.status_code == 409
        assert other.json()["type"] == "urn:compute:error:instance-exists"
        lines = (await client.get(f"{INSTANCES}/smol/logs?lines=5")).json()["lines"]
        assert 0 < len(lines) <= 5

        os.kill(pid, signal.SIGKILL)
        await until_status(client, "smol", "starting", seconds=10)
        again = await until_status(client, "smol", "ready", "failed")
        assert (again["status"], again["restarts"]) == ("ready", 1)
        assert again["last_error"] == "the engine exited unasked", "why it was started again, and when"
        assert ready["ready_at"] < again["last_error_at"] < again["ready_at"]
        second = engine_file(home)["pid"]
        assert second != pid
        assert "Paris" in await ask(again["endpoints"]["api"])

        stopped = await client.delete(f"{INSTANCES}/smol")
        assert stopped.json() == {"status": "stopped", "instance_name": "smol", "instance_id": "smol"}
        await gone(second)
        assert not (home / "engines" / "smol.json").exists()
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        assert (await client.get(f"{INSTANCES}/smol")).status_code == 404

    async def told() -> list[str]:
        return [event["event"] for event in events]

    seen = await until(told, lambda seen: "removed" in seen, 5)
    assert [name for name in ("starting", "ready", "stopping", "removed") if name in seen] == [
        "starting",
        "ready",
        "stopping",
        "removed",
    ]
    assert seen.index("stopping") < seen.index("removed")
    assert "smollm2" in events[0]["instance"]["served_names"]


async def test_an_orchestrator_that_comes_back_adopts_its_engine(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    async with ledger(nats_server, home):
        async with serving(orchestrator(nats_server, home)) as client:
            await client.post("/api/v1/vllm/deploy", json=DEPLOY)
            await until_status(client, "smol", "ready")
            before = engine_file(home)
        assert psutil.pid_exists(before["pid"])

        async with serving(orchestrator(nats_server, home)) as client:
            adopted = await until_status(client, "smol", "ready")
            assert adopted["restarts"] == 0
            assert engine_file(home) == before
            assert "Paris" in await ask(adopted["endpoints"]["api"])
        os.kill(before["pid"], signal.SIGKILL)  # while nobody watches
        await gone(before["pid"])

        async with serving(orchestrator(nats_server, home)) as client:

            async def started() -> int:
                path = home / "engines" / "smol.json"
                return int(json.loads(path.read_text())["pid"]) if path.exists() else before["pid"]

            pid = await until(started, lambda pid: pid != before["pid"])
            await until_status(client, "smol", "ready")
            assert (await client.post(f"{INSTANCES}/smol/stop")).status_code == 200
            await gone(pid)
            assert (await client.get(f"{INSTANCES}/smol")).json()["status"] == "stopped"
            assert (await client.post(f"{INSTANCES}/smol/start")).status_code == 202
            await until_status(client, "smol", "ready")
            pid = engine_file(home)["pid"]
            await client.delete(f"{INSTANCES}/smol")
            await gone(pid)


async def test_the_gateway_answers_by_any_served_name(nats_server: NatsServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with ledger(nats_server, home), serving(orchestrator(nats_server, home)) as client:
        await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        await until_status(client, "smol", "ready")
        listed = {item["id"] for item in (await client.get("/v1/models")).json()["data"]}
        assert {"smol", SMOLLM, "smollm2"} <= listed

        chat = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
        plain = await client.post("/v1/chat/completions", json={**chat, "model": "SmolLM2"})
        assert plain.json()["usage"]["completion_tokens"] > 0
        streamed = await client.post("/v1/chat/completions", json={**chat, "model": "smol", "stream": True})
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.text.rstrip().endswith("data: [DONE]")
        vector = await client.post("/v1/embeddings", json={"model": "smol", "input": "hello"})
        assert vector.is_success, vector.text
        assert len(vector.json()["data"][0]["embedding"]) == 576
        refused = await client.post("/v1/chat/completions", json={"model": "smol", "messages": "no"})
        assert 400 <= refused.status_code < 500
        assert refused.json()["type"] == "urn:compute:error:engine-refused"
        unknown = await client.post("/v1/completions", json={"model": "nobody", "prompt": "x"})
        assert unknown.json()["type"] == "urn:compute:error:no-ready-instance"

        attached = await client.post(
            "/api/v1/vllm/attach",
            json={"endpoint": (await client.get(f"{INSTANCES}/smol")).json()["endpoints"]["api"],
                  "model_name": "my-server"},
        )  # fmt: skip
        assert attached.status_code == 201
        routed = await client.post(
            "/v1/completions", json={"model": "my-server", "prompt": "Hi", "max_tokens": 1}
        )
        assert routed.status_code == 200
        assert (await client.delete(f"{INSTANCES}/my-server")).status_code == 200
        assert (await client.get(f"{INSTANCES}/smol")).json()["status"] == "ready"
        pid = engine_file(home)["pid"]
        await client.delete(f"{INSTANCES}/smol")
        await gone(pid)


async def test_an_engine_that_cannot_load_fails_with_its_own_words(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    home, models = tmp_path / "home", tmp_path / "models"
    models.mkdir()
    demo = demo_gguf()
    assert demo is not None
    with demo.open("rb") as whole:  # a whole header, no tensors
        (models / "broken.gguf").write_bytes(whole.read(3 << 20))
    service = orchestrator(nats_server, home, VLLM_MODEL_PATH=models)
    async with ledger(nats_server, home) as gpu, serving(service) as client:
        answer = await client.post("/api/v1/vllm/deploy", json={"model_name": "broken"})
        assert answer.status_code == 202, answer.text
        failed = await until_status(client, "broken", "failed")
        assert "exited before it was ready" in failed["last_error"]
        assert len(failed["last_error"].splitlines()) > 1
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        assert list((home / "engines").glob("*.json")) == []


async def test_over_nats(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    home = tmp_path / "home"
    node = "host.one"
    async with ledger(nats_server, home), serving(orchestrator(nats_server, home)) as client:
        ask_for = {**DEPLOY, "request_id": "r-1"}
        planned = await bus.request(subjects.VLLM_REQUEST, {**ask_for, "dry_run": True}, 10)
        assert (planned["status"], planned["request_id"]) == ("planned", "r-1")
        assert (await client.get(INSTANCES)).json()["count"] == 0

        deployed = await bus.request(subjects.VLLM_REQUEST, ask_for, 10)
        assert (deployed["instance_name"], deployed["request_id"]) == ("smol", "r-1")
        await until_status(client, "smol", "ready")
        pid = engine_file(home)["pid"]
        here = await bus.request(subjects.vllm_subject("status", node), {}, 5)
        assert [item["status"] for item in here["instances"]] == ["ready"]

        # another host's orchestrator sees it and ends it through this one
        other_home = tmp_path / "other"
        async with serving(orchestrator(nats_server, other_home, "host-two")) as other:
            await until_status(other, "smol", "ready", seconds=5)
            assert (await other.get(f"{INSTANCES}/smol/logs")).json()["node_id"] == node
            assert (await other.delete(f"{INSTANCES}/smol")).status_code == 200
            await gone(pid)
            await asyncio.sleep(0)
            assert (await client.get(f"{INSTANCES}/smol")).status_code == 404


async def test_adopting_while_a_client_deploys_starts_one_engine(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    service = orchestrator(nats_server, home)

    async def adopt_again_and_again(deployed: asyncio.Task[httpx.Response]) -> None:
        while not deployed.done():
            await service.adoption.adopt()
            await asyncio.sleep(0)

    async with ledger(nats_server, home), serving(service) as client:
        deployed = asyncio.create_task(client.post("/api/v1/vllm/deploy", json=DEPLOY))
        await adopt_again_and_again(deployed)
        await until_status(client, "smol", "ready")
        ports = {str(port) for port in service.settings.port_range}
        engines = [
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if "--alias" in (words := process.info["cmdline"] or []) and ports & set(words)
        ]
        assert engines == [engine_file(home)["pid"]]
        await client.delete(f"{INSTANCES}/smol")
        await gone(engines[0])
