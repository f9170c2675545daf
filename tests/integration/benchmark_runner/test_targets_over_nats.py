"""Targets out of the cluster: registered instances, and one started for the run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from compute_common import jetstream, subjects
from compute_common.bus import Bus
from compute_common.problems import Problem, not_found
from tests.integration.benchmark_runner.runners import RUN, ended, runner, when
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.nats import NatsServer

SPEC = {
    "model_name": "meta-llama/Llama-3-70B",
    "model_path": "/models/llama-3-70b",
    "gpu_count": 2,
    "batch_sizes": [1, 8, 16],
    "context_lengths": [512, 2048, 4096],
    "background": True,
}
SMALL = {"context_lengths": [8], "output_tokens": 4}


async def put_instance(
    bus: Bus,
    name: str,
    server: Script,
    status: str = "ready",
    *,
    node_id: str = "host-a",
    gpu_indices: tuple[int, ...] = (),
) -> None:
    bucket = await jetstream.ensure_bucket(bus.jetstream(), jetstream.INSTANCES_BUCKET)
    record = {
        "instance_name": name,
        "instance_id": name,
        "model_name": "org/Tiny-Model",
        "served_names": [name, "org/Tiny-Model", "Tiny-Model"],
        "status": status,
        "engine": "llama_cpp",
        "strategy": "CPU",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "placement": [{"node_id": node_id, "gpu_indices": gpu_indices, "reserved_mb": 1}],
        "memory": dict.fromkeys(
            ("weights_mb", "kv_cache_mb", "activations_mb", "overhead_mb", "total_mb", "kv_cache_tokens"), 1
        )
        | {"source": "test"},
        "endpoints": {"api": f"{server.url}/v1"},
        "explanation": "test",
        "node_id": node_id,
        "created_at": "2026-11-01T00:00:00Z",
        "last_error": "no memory" if status == "failed" else None,
    }
    await bucket.put(subjects.token(name), json.dumps(record).encode())


async def test_by_instance_or_model_name_and_the_result_is_told(
    tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await bus.subscribe(subjects.BENCHMARK_RESULT, told.put)
    async with (
        scripted(Script(ttft=0.001, gap=0.001)) as server,
        serving(runner(tmp_path, nats_server.url)) as client,
    ):
        await put_instance(bus, "tiny", server)
        for ask in ({"model_name": "tiny-model"}, {"model_name": "x", "instance_name": "tiny"}):
            run = (await client.post(RUN, json=ask | SMALL | {"background": False})).json()
            assert (run["status"], run["instance_name"], run["node_id"]) == ("completed", "tiny", "host-a")
            result = await asyncio.wait_for(told.get(), 5)
            assert result["benchmark_id"] == run["benchmark_id"]
            assert result["cells"][0]["output_tokens_per_s"] > 0
        unknown = await client.post(RUN, json={"model_name": "nobody/has-this"})
        assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:compute:error:no-target")
        missing = await client.post(RUN, json={"model_name": "x", "instance_name": "nope"})
        assert missing.status_code == 404
        await put_instance(bus, "slow", server, "starting")
        early = await client.post(RUN, json={"model_name": "x", "instance_name": "slow"})
        assert early.status_code == 409


async def test_over_nats(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> None:
    async with (
        scripted(Script(ttft=0.001, gap=0.001)) as server,
        serving(runner(tmp_path, nats_server.url)) as client,
    ):
        ask = {"model_name": "m", "endpoint": server.url, "request_id": "r"} | SMALL
        accepted = await bus.request(subjects.BENCHMARK_REQUEST, ask)
        assert accepted["request_id"] == "r"
        ref = {"benchmark_id": accepted["benchmark_id"]}
        await ended(client, accepted["benchmark_id"])
        assert (await bus.request(subjects.BENCHMARK_STATUS, ref))["status"] == "completed"
        assert (await bus.request(subjects.BENCHMARK_CANCEL, ref))["cells_kept"] == 1
        with pytest.raises(Problem, match="no benchmark has the id"):
            await bus.request(subjects.BENCHMARK_STATUS, {"benchmark_id": "bench-none"})


async def test_the_specifications_request_on_a_host_without_the_model(
    tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    async with serving(runner(tmp_path, nats_server.url)) as client:
        alone = await client.post(RUN, json=SPEC)
        assert (alone.status_code, alone.json()["type"]) == (503, "urn:compute:error:no-responder")

        async def refuse(_body: dict[str, Any]) -> object:
            raise not_found("unknown-model-path", "there is no /models/llama-3-70b on this host")

        await bus.serve(subjects.VLLM_REQUEST, refuse)
        await bus.flush()
        refused = await client.post(RUN, json=SPEC)
        assert refused.status_code == 404
        assert "llama-3-70b" in refused.json()["detail"]


@pytest.mark.parametrize("outcome", ["ready", "failed", "cancelled"])
async def test_a_temporary_instance_is_stopped_whatever_happens(
    tmp_path: Path, nats_server: NatsServer, bus: Bus, outcome: str
) -> None:
    asked: list[dict[str, Any]] = []
    stopped: asyncio.Queue[str] = asyncio.Queue()
    async with (
        scripted(Script(ttft=0.001, gap=0.001)) as server,
        serving(runner(tmp_path, nats_server.url)) as client,
    ):

        async def deploy(body: dict[str, Any]) -> object:
            asked.append(body)
            if not body.get("dry_run"):
                status = "ready" if outcome == "cancelled" else outcome
                await put_instance(bus, body["instance_name"], server, status)
            return {"instance_name": body["instance_name"], "fits": True}

        async def stop(body: dict[str, Any]) -> object:
            stopped.put_nowait(body["instance_name"])
            return {"instance_name": body["instance_name"]}

        await bus.serve(subjects.VLLM_REQUEST, deploy)
        await bus.serve(subjects.vllm_subject("stop", "host-a"), stop)
        await bus.flush()
        ask = {"model_name": "org/Tiny-Model", "model_path": "tiny.gguf"} | SMALL
        if outcome == "cancelled":
            ask |= {"iterations": 100, "output_tokens": 64}
        accepted = (await client.post(RUN, json=ask)).json()
        if outcome == "cancelled":
            await when(client, accepted["benchmark_id"], lambda r: r["progress"]["phase"] == "measuring")
            await client.delete(f"/api/v1/benchmark/{accepted['benchmark_id']}")
        run = await ended(client, accepted["benchmark_id"])
        assert run["status"] == ("completed" if outcome == "ready" else outcome)
        if outcome == "failed":
            assert "no memory" in run["error"]
        assert await asyncio.wait_for(stopped.get(), 10) == asked[1]["instance_name"]
        assert asked[0]["dry_run"] is True
        assert asked[1]["owner"] == f"benchmark:{run['benchmark_id']}"


async def test_a_temporary_instance_left_by_a_crash_is_stopped_at_the_next_start(
    tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    stopped: asyncio.Queue[str] = asyncio.Queue()

    async def stop(body: dict[str, Any]) -> object:
        stopped.put_nowait(body["instance_name"])
        return {}

    await bus.serve(subjects.vllm_subject("stop", "host-a"), stop)
    await bus.flush()
    left = {
        "benchmark_id": "bench-left",
        "status": "running",
        "model_name": "m",
        "progress": {"cells_done": 0, "cells_total": 1},
        "environment": {"temporary_instance": "bench-left"},
        "created_at": "2026-11-01T00:00:00Z",
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench-left.json").write_text(json.dumps(left))
    await put_instance(bus, "bench-left", Script())
    async with serving(runner(tmp_path, nats_server.url)) as client:
        assert await asyncio.wait_for(stopped.get(), 10) == "bench-left"
        assert (await ended(client, "bench-left"))["status"] == "failed"
