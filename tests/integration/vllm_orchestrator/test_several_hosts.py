"""One instance over two hosts: planned, promised, started and ended as one."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compute_common.bus import Bus
from compute_common.schemas.vllm import DeployRequest
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    gone,
    orchestrator,
    until,
    until_status,
)
from tests.integration.vllm_orchestrator.two_hosts import HEAD, MODEL, TAIL, Pair
from tests.support.apps import serving
from tests.support.nats import NatsServer


async def test_started_on_both_restarted_as_one_ended_on_both(pair: Pair) -> None:
    answer = await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    assert answer.status_code == 202, answer.text
    assert {place["node_id"] for place in answer.json()["placement"]} == {HEAD, TAIL}
    ready = await until_status(pair.head, "qwen", "ready", "failed")
    assert ready["status"] == "ready", ready["last_error"]
    assert await pair.reserved() == [1, 1]
    head, tail = ready["node_id"], next(each for each in (HEAD, TAIL) if each != ready["node_id"])
    first = {node_id: pair.pid(node_id) for node_id in (head, tail)}
    assert "--headless" in psutil.Process(first[tail]).cmdline()
    for gpu in pair.gpus.values():
        [held] = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert held["state"] == "bound"

    os.kill(first[tail], signal.SIGKILL)  # a part is lost: the whole starts again
    again = await until_restarted(pair.head)
    assert "part on node" in again["last_error"]
    await gone(first[head])
    second = {node_id: pair.pid(node_id) for node_id in (head, tail)}
    assert not set(second.values()) & set(first.values())

    assert (await pair.head.delete(f"{INSTANCES}/qwen")).status_code == 200
    for pid in second.values():
        await gone(pid)
    assert await pair.reserved() == [0, 0]


async def until_restarted(client: httpx.AsyncClient) -> Any:
    async def look() -> Any:
        return (await client.get(f"{INSTANCES}/qwen")).json()

    return await until(look, lambda seen: seen["restarts"] == 1 and seen["status"] == "ready", 30)


async def test_all_hosts_promise_or_none(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second host's memory goes between plan and reservation."""
    planned = (await pair.head.post("/api/v1/vllm/deploy", json={**MODEL, "dry_run": True})).json()
    later = planned["placement"][1]["node_id"]
    body = {"gpu_indices": [0], "required_mb": 20_000}
    find = pair.services[HEAD].planner.find

    async def find_and_lose(*args: Any) -> Any:
        found = await find(*args)
        await pair.gpus[later].post("/api/v1/gpu/reserve", json=body)
        return found

    for service in pair.services.values():
        monkeypatch.setattr(service.planner, "find", find_and_lose)
    refused = await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    assert refused.status_code == 409
    assert sorted(await pair.reserved()) == [0, 1]  # only the stranger's
    assert (await pair.head.get(INSTANCES)).json()["count"] == 0


async def test_asked_at_a_host_that_is_no_part_of_it(
    pair: Pair, nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """Its plan spans the two with cards; the one at its head starts it on both."""
    asked = orchestrator(nats_server, tmp_path / "asked", "host-without-cards")
    async with serving(asked) as client:
        answer = await client.post("/api/v1/vllm/deploy", json=MODEL)
        assert answer.status_code == 202, answer.text
        assert {place["node_id"] for place in answer.json()["placement"]} == {HEAD, TAIL}
        await until_status(client, "qwen", "ready")
        assert sorted(await pair.reserved()) == [1, 1]
        assert (await client.delete(f"{INSTANCES}/qwen")).status_code == 200
        assert await pair.reserved() == [0, 0]


async def test_whoever_is_asked_is_the_head_where_hosts_are_alike(pair: Pair) -> None:
    tail = pair.services[TAIL].desk
    code, answer = await tail.deploy(DeployRequest.model_validate(MODEL))
    assert (code, answer.placement[0].node_id) == (202, TAIL)
    await until_status(pair.head, "qwen", "ready")
    await tail.stop("qwen", remove=True)


async def test_ray_is_rendered_and_not_started(pair: Pair) -> None:
    body = {**MODEL, "distributed_executor_backend": "ray"}
    refused = await pair.head.post("/api/v1/vllm/deploy", json=body)
    assert refused.status_code == 409
    assert "leave distributed_executor_backend" in refused.json()["detail"]
    assert await pair.reserved() == [0, 0]
    assert (await pair.head.get(INSTANCES)).json()["count"] == 0
    planned = (await pair.head.post("/api/v1/vllm/plan", json=body)).json()["plan"]
    assert list(planned["docker_compose"]["services"]) == ["qwen", "qwen-rank-1"]
    assert planned["command"][-2:] == ["--distributed-executor-backend", "ray"]
