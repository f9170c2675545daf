"""`python -m compute_node` as a real process: joins, answers with a real model, leaves at once on SIGTERM."""

import asyncio
import os
import signal
import sys
import sysconfig
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import probe, subjects
from compute_common.bus import Bus
from compute_node.program import ALIVE_SECONDS
from tests.integration.compute_node.test_worker import cluster
from tests.integration.work_marshaling.cluster import ended, submit
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.suite import demo_model

NODE = "node.one"


@asynccontextmanager
async def node_program(url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "NATS_URL": url, "NODE_ID": NODE, "LOG_LEVEL": "WARNING"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "compute_node", *arguments, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def registered(bus: Bus) -> dict[str, Any] | None:
    answer = await bus.request(subjects.NODES_QUERY, {"online_only": False, "include_draining": True})
    nodes = {node["node_id"]: node for node in answer["nodes"]}
    return nodes.get(NODE)


async def test_it_joins_by_itself_and_leaves_at_once(nats_server: NatsServer, bus: Bus) -> None:
    async with cluster(nats_server.url), node_program(nats_server.url, "--join") as process:
        node: dict[str, Any] = {}

        async def joined() -> bool:
            node.update(await registered(bus) or {})
            return bool(node.get("last_heartbeat"))

        await waiting.until(joined, 15)
        assert node["work_types"] == ["embedding", "inference"]
        assert (node["slots"], node["managed"], node["fenced"]) == (4, True, True)
        assert node["heartbeat_seconds"] == 5
        assert node["session"].startswith("run-")
        assert node["cpu"]["threads"] >= 1
        assert node["memory"]["total_mb"] > 0
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        assert time.monotonic() - started < 3

        async def left() -> bool:
            return ((await registered(bus)) or {}).get("work_types") == []

        await waiting.until(left)


async def test_a_container_can_tell_whether_it_is_connected(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sign of life is written while NATS is there, and the probe believes it for 15 s."""
    sign = tmp_path / "alive"
    monkeypatch.setenv("COMPUTE_NODE_ALIVE_FILE", str(sign))
    monkeypatch.setenv("PROBE_FILE", str(sign))
    assert probe.main() == 1
    async with node_program(nats_server.url):

        async def alive() -> bool:
            return probe.main() == 0

        await waiting.until(alive, 15)
        nats_server.stop()
        await asyncio.sleep(1)  # for a touch that was under way
        os.utime(sign, (0, 0))
        await asyncio.sleep(ALIVE_SECONDS + 1)  # and nothing touches it again
        assert probe.main() == 1


@asynccontextmanager
async def llama_server() -> AsyncIterator[str]:
    """A real engine with the 135M model; its base URL."""
    model = demo_model()
    binary = Path(sysconfig.get_path("scripts")) / "llama-server-vulkan"
    if model is None or not binary.exists():
        pytest.skip("llama-server and the 135M model are not installed")
    port = free_port()
    arguments = [
        "-m",
        str(model),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "-c",
        "512",
        "-t",
        "2",
        "-np",
        "1",
    ]
    process = await asyncio.create_subprocess_exec(
        str(binary),
        *arguments,
        "--alias",
        "smol",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{port}"

    async def healthy() -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{base}/health")).status_code == 200
        except httpx.TransportError:
            return False

    try:
        await waiting.until(healthy, 60)
        yield base
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def instance(base: str) -> dict[str, Any]:
    numbers = ("weights_mb", "kv_cache_mb", "activations_mb", "overhead_mb", "total_mb", "kv_cache_tokens")
    return {
        "instance_name": "smol",
        "instance_id": "smol",
        "model_name": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "status": "ready",
        "engine": "llama_cpp",
        "strategy": "CPU",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "placement": [{"node_id": NODE, "gpu_indices": [], "reserved_mb": 300}],
        "memory": {**dict.fromkeys(numbers, 1), "source": "test"},
        "endpoints": {"api": f"{base}/v1"},
        "explanation": "",
        "served_names": ["smol", "HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"],
        "node_id": NODE,
        "created_at": "2026-01-01T00:00:00Z",
    }


@pytest.mark.engine
async def test_a_real_model_answers_prompt_and_messages(nats_server: NatsServer, bus: Bus) -> None:
    async with (
        llama_server() as base,
        cluster(nats_server.url, WORK_RETRY_DELAY=0.1) as (_, client),
        node_program(nats_server.url, "--join"),
    ):
        record = instance(base)

        async def status(_message: dict[str, Any]) -> dict[str, Any]:
            return {"node_id": NODE, "instances": [record]}

        await bus.serve(subjects.vllm_subject("status", NODE), status)

        async def serving() -> bool:
            """The instance is told again and again, as the orchestrator does."""
            event = {
                "event": "ready",
                "node_id": NODE,
                "instance": record,
                "timestamp": "2026-01-01T00:00:00Z",
            }
            await bus.publish(subjects.VLLM_INSTANCE, event)
            node = await registered(bus) or {}
            return "smol" in (node.get("supported_models") or []) and bool(node.get("work_types"))

        await waiting.until(serving, 15)
        chat = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 12, "temperature": 0}
        asked = await submit(
            client, work_type="inference", model_name="smollm2-135m-INSTRUCT", payload=chat, max_retries=0
        )
        item = await ended(client, asked, 60)
        assert item["status"] == "completed", item
        result = item["result"]
        assert result["text"]
        assert result["usage"]["completion_tokens"] <= 12
        assert 0 < result["ttft_ms"] <= result["duration_ms"]
        assert result["instance_name"] == "smol"
        assert result["finish_reason"] in ("stop", "length")
        assert result["raw"]["choices"][0]["message"]["content"] == result["text"]
        prompt = {"prompt": "Once upon a time", "max_tokens": 5}
        completed = await ended(
            client, await submit(client, work_type="inference", model_name="smol", payload=prompt), 60
        )
        assert completed["result"]["finish_reason"] == "length"
        assert completed["result"]["raw"]["object"] == "text_completion"
        wrong = await submit(client, work_type="inference", model_name="smol", payload={"nonsense": 1})
        failed = await ended(client, wrong)
        assert failed["error_message"] == "payload: one of `prompt`, `messages`, `input` is needed"
        assert failed["attempt"] == 1
        refused = await submit(
            client, work_type="inference", model_name="smol", payload={"messages": "not a list"}
        )
        engine = await ended(client, refused, 30)
        assert engine["status"] == "failed"
        assert "smol answered" in engine["error_message"]
