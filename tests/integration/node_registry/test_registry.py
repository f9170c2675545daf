"""The registry on a real NATS server, over HTTP and over NATS."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port

SPEC_NODE = {
    "node_id": "my-submodule-node",
    "hostname": "submodule-host",
    "tier": "GPU_PEER",
    "cpu": {"cores": 16, "threads": 32},
    "memory": {"total_gb": 64},
    "gpus": [{"name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564}],
}


def registry(url: str) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": url, "NATS_WAIT_SECONDS": 0.2}))


async def eventually(probe: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not await probe():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def listen(bus: Bus, subject: str) -> list[Message]:
    heard: list[Message] = []

    async def hear(body: Message) -> None:
        heard.append(body)

    await bus.subscribe(subject, hear)
    await bus.flush()
    return heard


async def status_of(client: httpx.AsyncClient, node_id: str) -> str | None:
    answer = await client.get(f"/api/v1/nodes/{node_id}")
    return str(answer.json()["status"]) if answer.status_code == 200 else None


async def test_register_query_and_the_specifications_own_words(nats_server: NatsServer, bus: Bus) -> None:
    announced = await listen(bus, subjects.NODES_ANNOUNCE)
    events = await listen(bus, subjects.NODES_EVENT)
    async with serving(registry(nats_server.url)) as client:
        answer = await client.post("/api/v1/nodes/register", json=SPEC_NODE)
        assert answer.status_code == 200
        body = answer.json()
        assert (body["status"], body["node_id"], body["tier"]) == (
            "registered",
            "my-submodule-node",
            "GPU_PEER",
        )
        assert body["warnings"] == []
        filter_body = {"requires_gpu": True, "min_tier": "gpu_peer", "online_only": True}
        for path in ("/api/v1/nodes/query", "/query"):
            found = (await client.post(path, json=filter_body)).json()
            assert found["count"] == 1
            assert found["nodes"][0]["node_id"] == "my-submodule-node"
        over_nats = await bus.request(subjects.NODES_QUERY, {**filter_body, "query_id": "q1"})
        assert over_nats["query_id"] == "q1"
        assert over_nats["nodes"] == found["nodes"]
        single = (await client.get("/nodes/my-submodule-node")).json()
        assert single["capabilities"]["cpu_cores"] == 16
        assert (await client.get("/query?requires_gpu=true&label=a%3Db")).json()["count"] == 0
        assert (await client.get("/query?label=nonsense")).status_code == 422

        async def told() -> bool:
            return bool(announced) and bool(events)

        await eventually(told)
        assert announced[0]["tier"] == "GPU_PEER"
        assert (events[0]["event"], events[0]["node"]["hostname"]) == ("joined", "submodule-host")
        assert len(events) == 1, "its own publication is not applied twice"


async def test_a_node_that_speaks_only_nats(nats_server: NatsServer, bus: Bus) -> None:
    asked = await listen(bus, subjects.NODES_REANNOUNCE)
    async with serving(registry(nats_server.url)) as client:
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": "a.b"})

        async def was_asked() -> bool:
            return any(body["node_id"] == "a.b" for body in asked)

        await eventually(was_asked)

        async def everybody_was_asked() -> bool:
            return any(body["node_id"] == "*" for body in asked)

        await eventually(everybody_was_asked)
        flat = {"node_id": "a.b", "hostname": "h", "cpu_cores": 4, "gpu_count": 0, "heartbeat_seconds": 0.2}
        await bus.publish(subjects.node_subject("a.b", "announce"), flat)

        async def is_known() -> bool:
            return await status_of(client, "a.b") == "online"

        await eventually(is_known)

        async def is_offline() -> bool:
            return await status_of(client, "a.b") == "offline"

        await eventually(is_offline)
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": "w", "node_id": "a.b", "result": 1})
        await eventually(is_known)


async def test_nobody_speaks_for_another_node(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        forged = {"node_id": "victim", "hostname": "h"}
        await bus.publish(subjects.node_subject("attacker", "announce"), forged)
        await bus.publish(subjects.node_subject("honest", "announce"), {"hostname": "h"})

        async def is_known() -> bool:
            return await status_of(client, "honest") == "online"

        await eventually(is_known)
        assert await status_of(client, "victim") is None


async def test_a_drain_survives_restart_and_the_node_is_still_known(nats_server: NatsServer) -> None:
    async with serving(registry(nats_server.url)) as client:
        await client.post("/api/v1/nodes/register", json=SPEC_NODE)
        drained = await client.post("/api/v1/nodes/my-submodule-node/drain")
        assert drained.json() == {"status": "draining", "node_id": "my-submodule-node"}
        assert (await client.post("/nodes/my-submodule-node/drain")).status_code == 200
        assert (await client.post("/api/v1/nodes/nobody/drain")).status_code == 404
    async with serving(registry(nats_server.url)) as client:
        assert (await client.get("/readyz")).status_code == 200
        node = (await client.get("/api/v1/nodes/my-submodule-node")).json()
        assert (node["status"], node["tier"], node["cpu_cores"]) == ("draining", "GPU_PEER", 16)
        await client.post("/api/v1/nodes/heartbeat", json={"node_id": "my-submodule-node"})
        assert await status_of(client, "my-submodule-node") == "draining"
        lifted = await client.post("/api/v1/nodes/my-submodule-node/undrain")
        assert lifted.json()["status"] == "online"
        assert (await client.delete("/api/v1/nodes/my-submodule-node")).status_code == 204
        assert (await client.delete("/api/v1/nodes/my-submodule-node")).status_code == 404
    async with serving(registry(nats_server.url)) as client:
        assert (await client.get("/api/v1/nodes")).json()["count"] == 0


async def test_without_nats_it_works_locally_and_heals(nats_server: NatsServer) -> None:
    nats_server.stop()
    service = registry(nats_server.url)
    async with serving(service) as client:
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["checks"]["nats"]["ok"]) == ("degraded", False)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/register", json=SPEC_NODE)).status_code == 200
        beat = {"node_id": "my-submodule-node"}
        assert (await client.post("/heartbeat", json=beat)).json()["known"] is True
        assert (await client.post("/api/v1/nodes/my-submodule-node/drain")).status_code == 200
        assert (await client.get("/api/v1/overview")).json()["queue"] is None
        nats_server.start()

        async def is_healthy() -> bool:
            return bool((await client.get("/healthz")).json()["status"] == "healthy")

        await eventually(is_healthy)
    async with serving(registry(nats_server.url)) as client:
        assert await status_of(client, "my-submodule-node") == "draining"


async def test_nats_killed_and_back_loses_nothing(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        node = {"node_id": "n1", "hostname": "h", "heartbeat_seconds": 0.25}
        await bus.publish(subjects.NODES_ANNOUNCE, node)

        async def is_online() -> bool:
            return await status_of(client, "n1") == "online"

        await eventually(is_online)
        nats_server.stop(kill=True)

        async def is_degraded() -> bool:
            return bool((await client.get("/healthz")).json()["status"] == "degraded")

        await eventually(is_degraded)
        deadline = time.monotonic() + 2.5  # longer than the node's own deadline of 2 s
        while time.monotonic() < deadline:
            assert await is_online(), "an outage of NATS blames no node"
            await asyncio.sleep(0.1)
        nats_server.start()

        async def is_offline() -> bool:
            return await status_of(client, "n1") == "offline"

        await eventually(is_offline)


async def test_instances_and_benchmarks_of_a_node(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        await client.post("/api/v1/nodes/register", json=SPEC_NODE | {"managed": True})
        await bus.publish(subjects.VLLM_INSTANCE, instance_event("ready"))

        async def models() -> list[str]:
            answer = await client.get("/api/v1/nodes/my-submodule-node")
            return list(answer.json()["supported_models"])

        async def is_served() -> bool:
            return "llama-3-70b" in await models()

        await eventually(is_served)
        assert (await client.post("/query", json={"model": "LLAMA-3-70b"})).json()["count"] == 1
        overview = (await client.get("/api/v1/overview")).json()
        assert overview["instances"][0]["status"] == "ready"
        await bus.publish(subjects.VLLM_INSTANCE, instance_event("stopped"))

        async def is_gone() -> bool:
            return await models() == []

        await eventually(is_gone)
        cell = {"batch_size": 4, "context_length": 512, "output_tokens": 64, "valid": True, "errors": 0}
        result = {
            "benchmark_id": "b1",
            "model_name": "llama",
            "node_id": "my-submodule-node",
            "engine": "vllm",
            "cells": [{**cell, "output_tokens_per_s": 123.0}, {**cell, "valid": False}],
            "finished_at": "2026-11-23T00:00:00Z",
        }
        await bus.publish(subjects.BENCHMARK_RESULT, result)

        async def is_measured() -> bool:
            node = (await client.get("/api/v1/nodes/my-submodule-node")).json()
            return [item["output_tokens_per_s"] for item in node["measured"]] == [123.0]

        await eventually(is_measured)


def instance_event(status: str) -> dict[str, Any]:
    memory = dict.fromkeys(
        ("weights_mb", "kv_cache_mb", "activations_mb", "overhead_mb", "total_mb", "kv_cache_tokens"), 1
    )
    return {
        "event": status,
        "node_id": "my-submodule-node",
        "timestamp": "2026-11-23T00:00:00Z",
        "instance": {
            "instance_name": "llama-3-70b",
            "instance_id": "llama-3-70b",
            "model_name": "meta-llama/Llama-3-70B",
            "status": status,
            "engine": "vllm",
            "strategy": "SINGLE_GPU",
            "tensor_parallel_size": 1,
            "pipeline_parallel_size": 1,
            "placement": [],
            "memory": {**memory, "source": "test"},
            "explanation": "",
            "served_names": ["llama-3-70b", "meta-llama/Llama-3-70B"],
            "created_at": "2026-11-23T00:00:00Z",
        },
    }


HOSTILE = [
    b"",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"node_id": "n1", "hostname": ',
    b'{"node_id": "../../x", "hostname": "h"}',
    b'{"node_id": "a;rm -rf", "hostname": "h"}',
    b'{"node_id": "events", "hostname": "h"}',
    b'{"node_id": "' + b"x" * 10_000 + b'", "hostname": "h"}',
    b'{"node_id": "n1", "hostname": "h", "gpus": "many"}',
    b'{"node_id": "n1", "hostname": "h", "cpu": {"cores": -1}}',
    b'{"node_id": "n1", "hostname": "h", "memory": {"total_gb": 1e999}}',
    b'{"node_id": "n1", "hostname": "h", "deep": {"x": 1e999}}',
    b'{"node_id": "n1", "hostname": "h", "heartbeat_seconds": 0}',
    b'{"node_id": "n1", "hostname": "h", "gpu_count": 1e9}',
    b'{"node_id": "n1", "hostname": "h", "note": "' + b"x" * 300_000 + b'"}',
    b"[" * 5000,
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:40]))
async def test_hostile_bodies_are_refused(data: bytes) -> None:
    async with serving(registry("nats://127.0.0.1:1")) as client:
        for path in ("/api/v1/nodes/register", "/api/v1/nodes/heartbeat", "/api/v1/nodes/query"):
            answer = await client.post(path, content=data, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, path
            if path.endswith("register") and b"deep" not in data:
                assert answer.status_code >= 400
                assert answer.headers["content-type"] == "application/problem+json"
        listed = await client.get("/api/v1/nodes")
        assert listed.status_code == 200
        json.loads(listed.content)
        for node_id in ("..%2Fx", "a;b", "query", "x" * 200):
            assert (await client.get(f"/api/v1/nodes/{node_id}")).status_code in (404, 422)


async def test_hostile_messages_kill_no_subscription(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        listened = (
            subjects.NODES_ANNOUNCE, subjects.NODES_HEARTBEAT, subjects.NODES_DRAIN, subjects.NODES_REMOVE,
            subjects.NODES_QUERY, subjects.VLLM_INSTANCE, subjects.BENCHMARK_RESULT, subjects.WORK_COMPLETED,
            subjects.WORK_FAILED, subjects.WORK_PROGRESS, "compute.node.x.announce",
            "compute.node.a=2E.heartbeat", "compute.node.$$.completed", "compute.work.test.v1",
        )  # fmt: skip
        for subject in listened:
            for data in HOSTILE:
                await bus.client.publish(subject, data)
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": "good", "hostname": "h"})

        async def is_known() -> bool:
            return await status_of(client, "good") == "online"

        await eventually(is_known)
        await bus.publish(subjects.NODES_DRAIN, {"node_id": "good", "drain": True})

        async def is_draining() -> bool:
            return await status_of(client, "good") == "draining"

        await eventually(is_draining)
        with pytest.raises(Problem) as refused:
            await bus.request(subjects.NODES_QUERY, {"min_tier": "LARGE", "query_id": "q"})
        assert refused.value.status == 422
        assert (await bus.request(subjects.NODES_QUERY, {"include_draining": True}))["count"] >= 1


async def test_server_sent_events(nats_server: NatsServer) -> None:
    """Over a real socket: the in-process transport does not stream."""
    import uvicorn  # noqa: PLC0415 - only this test needs a socket

    from compute_common.shell import create_app  # noqa: PLC0415

    service = registry(nats_server.url)
    port = free_port()
    config = uvicorn.Config(create_app(service), port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: _true(server.started))
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client,
            client.stream("GET", "/api/v1/nodes/events") as stream,
        ):
            lines = stream.aiter_lines()
            assert (await anext(lines)) == ": listening"
            await client.post("/api/v1/nodes/register", json=SPEC_NODE)
            seen = [line async for line in _until(lines, "data:")]
            assert "event: joined" in seen
            assert json.loads(seen[-1].removeprefix("data: "))["node_id"] == "my-submodule-node"
    finally:
        server.should_exit = True
        await running


async def _true(value: bool) -> bool:
    return value


async def _until(lines: Any, prefix: str) -> Any:
    async for line in lines:
        yield line
        if line.startswith(prefix):
            return
