"""The registry on a real NATS server, over HTTP and over NATS."""

import json
from typing import Any

import httpx

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.node_registry.one_registry import SPEC_NODE, registry, status_of
from tests.support.apps import serving
from tests.support.hearing import messages_on
from tests.support.live import listening
from tests.support.nats import NatsServer
from tests.support.waiting import until


async def test_register_query_and_the_specifications_own_words(nats_server: NatsServer, bus: Bus) -> None:
    announced = await messages_on(bus, subjects.NODES_ANNOUNCE)
    events = await messages_on(bus, subjects.NODES_EVENT)
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

        await until(told)
        assert announced[0]["tier"] == "GPU_PEER"
        assert (events[0]["event"], events[0]["node"]["hostname"]) == ("joined", "submodule-host")
        assert len(events) == 1, "its own publication is not applied twice"


async def test_a_node_that_speaks_only_nats(nats_server: NatsServer, bus: Bus) -> None:
    asked = await messages_on(bus, subjects.NODES_REANNOUNCE)
    async with serving(registry(nats_server.url)) as client:
        await bus.publish(subjects.NODES_HEARTBEAT, {"node_id": "a.b"})

        async def was_asked() -> bool:
            return any(body["node_id"] == "a.b" for body in asked)

        await until(was_asked)

        async def everybody_was_asked() -> bool:
            return any(body["node_id"] == "*" for body in asked)

        await until(everybody_was_asked)
        flat = {"node_id": "a.b", "hostname": "h", "cpu_cores": 4, "gpu_count": 0, "heartbeat_seconds": 0.2}
        await bus.publish(subjects.node_subject("a.b", "announce"), flat)

        async def is_known() -> bool:
            return await status_of(client, "a.b") == "online"

        await until(is_known)

        async def is_offline() -> bool:
            return await status_of(client, "a.b") == "offline"

        await until(is_offline)
        await bus.publish(subjects.WORK_COMPLETED, {"work_id": "w", "node_id": "a.b", "result": 1})
        await until(is_known)


async def test_nobody_speaks_for_another_node(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        forged = {"node_id": "victim", "hostname": "h"}
        await bus.publish(subjects.node_subject("attacker", "announce"), forged)
        await bus.publish(subjects.node_subject("honest", "announce"), {"hostname": "h"})

        async def is_known() -> bool:
            return await status_of(client, "honest") == "online"

        await until(is_known)
        assert await status_of(client, "victim") is None


async def test_instances_and_benchmarks_of_a_node(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        await client.post("/api/v1/nodes/register", json=SPEC_NODE | {"managed": True})
        await bus.publish(subjects.VLLM_INSTANCE, instance_event("ready"))

        async def models() -> list[str]:
            answer = await client.get("/api/v1/nodes/my-submodule-node")
            return list(answer.json()["supported_models"])

        async def is_served() -> bool:
            return "llama-3-70b" in await models()

        await until(is_served)
        assert (await client.post("/query", json={"model": "LLAMA-3-70b"})).json()["count"] == 1
        overview = (await client.get("/api/v1/overview")).json()
        assert overview["instances"][0]["status"] == "ready"
        await bus.publish(subjects.VLLM_INSTANCE, instance_event("stopped"))

        async def is_gone() -> bool:
            return await models() == []

        await until(is_gone)
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

        await until(is_measured)


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


async def test_server_sent_events(nats_server: NatsServer) -> None:
    """Over a real socket: the in-process transport does not stream."""
    async with (
        listening(registry(nats_server.url)) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
        client.stream("GET", "/api/v1/nodes/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert (await anext(lines)) == ": listening"
        await client.post("/api/v1/nodes/register", json=SPEC_NODE)
        seen = [line async for line in _until(lines, "data:")]
        assert "event: joined" in seen
        assert json.loads(seen[-1].removeprefix("data: "))["node_id"] == "my-submodule-node"


async def _until(lines: Any, prefix: str) -> Any:
    async for line in lines:
        yield line
        if line.startswith(prefix):
            return
