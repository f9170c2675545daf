"""Reserve, bind, renew and release over HTTP, on real files and processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from tests.integration.gpu_orchestrator.hosts import orchestrator, two_gpus
from tests.support.apps import serving

RESERVE = "/api/v1/gpu/reserve"
LIST = "/api/v1/gpu/reservations"


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.05)


async def living(client: httpx.AsyncClient) -> list[str]:
    return [r["reservation_id"] for r in (await client.get(LIST)).json()["reservations"]]


async def test_a_host_without_gpu_says_so_and_reserves_ram(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path)) as client:
        states = (await client.get("/api/v1/gpu/states")).json()
        if states["gpus"]:
            pytest.skip("this host has a GPU")
        assert states["count"] == 0
        assert states["host_memory"]["total_mb"] > states["host_memory"]["available_mb"] > 0
        refused = await client.post(RESERVE, json={"gpu_indices": [0, 1], "required_mb": 24576})
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:compute:error:no-gpu"
        taken = await client.post(RESERVE, json={"gpu_indices": [], "required_mb": 64, "owner": "test"})
        assert taken.status_code == 201
        after = (await client.get("/api/v1/gpu/states")).json()["host_memory"]
        assert after["reserved_mb"] == 64
        assert after["reservations"] == [taken.json()["reservation_id"]]


async def test_both_gpus_or_none_and_the_refusal_counts_the_mib(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus(0, 4000))) as client:
        refused = await client.post(RESERVE, json={"gpu_indices": [0, 1], "required_mb": 24_000})
        body = refused.json()
        assert refused.status_code == 409
        assert [(s["gpu_index"], s["available_mb"], s["shortfall_mb"]) for s in body["shortfall"]] == [
            (1, 20_308, 3_692)
        ]
        assert body["would_fit"]["required_mb_per_gpu"] == 12_000
        assert "per GPU" in body["detail"]
        assert await living(client) == []
        taken = await client.post(RESERVE, json={"gpu_indices": [0, 1], "required_mb": 12_000})
        assert taken.status_code == 201
        assert taken.json()["state"] == "created"
        states = (await client.get("/api/v1/gpu/states")).json()
        assert [g["available_mb"] for g in states["gpus"]] == [12_308, 8_308]
        assert [g["foreign_mb"] for g in states["gpus"]] == [0, 4_000]


async def test_release_is_idempotent_and_unknown_ids_are_404(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        made = (await client.post(RESERVE, json={"gpu_indices": [0], "required_mb": 100})).json()
        path = f"{LIST}/{made['reservation_id']}"
        assert [(await client.delete(path)).status_code for _ in range(2)] == [204, 204]
        ended = await client.post(f"{path}/renew", json={})
        assert (ended.status_code, ended.json()["type"]) == (409, "urn:compute:error:reservation-ended")
        assert (await client.delete(f"{LIST}/res-never")).status_code == 404
        assert (await client.post(f"{LIST}/res-never/renew")).status_code == 404
        assert (await client.delete(f"{LIST}/a;rm -rf")).status_code == 422


async def test_unbound_expires_on_time_and_renewing_postpones_it(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        ask = {"gpu_indices": [1], "required_mb": 100, "timeout_seconds": 0.4}
        short = (await client.post(RESERVE, json=ask)).json()["reservation_id"]
        kept = (await client.post(RESERVE, json=ask)).json()["reservation_id"]
        renewed = await client.post(f"{LIST}/{kept}/renew", json={"timeout_seconds": 60})
        assert renewed.status_code == 200

        async def expired() -> bool:
            return await living(client) == [kept]

        await until(expired)
        assert (await client.post(f"{LIST}/{short}/renew")).status_code == 409


async def test_the_same_key_is_the_same_reservation(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        ask = {"gpu_indices": [0], "required_mb": 100, "idempotency_key": "k"}
        first, again = [(await client.post(RESERVE, json=ask)).json() for _ in range(2)]
        assert first == again
        other = await client.post(RESERVE, json=ask | {"required_mb": 200})
        assert (other.status_code, other.json()["type"]) == (409, "urn:compute:error:idempotency-key-reused")


async def test_bound_lives_as_long_as_any_of_its_session(tmp_path: Path) -> None:
    """The leader forks a child and dies; the reservation goes only with the child."""
    script = "import os,time\npid=os.fork()\nif pid: print(pid, flush=True)\ntime.sleep(60)"
    leader = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert leader.stdout is not None
    child = int(leader.stdout.readline())
    try:
        async with serving(orchestrator(tmp_path)) as client:
            ask = {"gpu_indices": [], "required_mb": 64, "timeout_seconds": 0.5}
            held = (await client.post(RESERVE, json=ask)).json()["reservation_id"]
            bound = await client.post(f"{LIST}/{held}/bind", json={"pid": leader.pid})
            assert bound.json()["state"] == "bound"
            assert bound.json()["expires_at"] is None
            assert bound.json()["bound_to"]["session_id"] == leader.pid
            leader.kill()
            leader.wait(10)
            await asyncio.sleep(1)  # twice its timeout: only the child holds it now
            assert await living(client) == [held]
            os.kill(child, signal.SIGKILL)

            async def gone() -> bool:
                return await living(client) == []

            await until(gone)
    finally:
        leader.stdout.close()
        leader.kill()
        leader.wait(10)


async def test_own_use_of_a_bound_process_is_not_counted_twice(tmp_path: Path) -> None:
    script = "held = b'x' * (200 << 20)\nprint('up', flush=True)\ninput()"
    engine = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", script],
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert engine.stdout is not None
    assert engine.stdin is not None
    engine.stdout.readline()
    try:
        async with serving(orchestrator(tmp_path)) as client:
            held = (await client.post(RESERVE, json={"gpu_indices": [], "required_mb": 400})).json()
            before = (await client.get("/api/v1/gpu/states")).json()["host_memory"]["available_mb"]
            await client.post(f"{LIST}/{held['reservation_id']}/bind", json={"pid": engine.pid})
            after = (await client.get("/api/v1/gpu/states")).json()["host_memory"]["available_mb"]
            assert 120 < after - before < 280
    finally:
        engine.kill()
        engine.wait(10)
        engine.stdout.close()
        engine.stdin.close()


@pytest.mark.parametrize(
    "body",
    [
        {"gpu_indices": [0, 0], "required_mb": 1},
        {"gpu_indices": [-1], "required_mb": 1},
        {"gpu_indices": [0], "required_mb": 0},
        {"gpu_indices": [0], "required_mb": 1 << 70},
        {"gpu_indices": [1 << 70], "required_mb": 1},
        {"gpu_indices": [0], "required_mb": 1, "timeout_seconds": 1e9},
        {"gpu_indices": "0", "required_mb": 1},
        {"required_mb": 1},
    ],
)
async def test_senseless_requests_are_422(tmp_path: Path, body: object) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        assert (await client.post(RESERVE, json=body)).status_code == 422
        assert await living(client) == []


async def test_binding_what_is_not_there_changes_nothing(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        held = (await client.post(RESERVE, json={"gpu_indices": [0], "required_mb": 1})).json()
        bind = f"{LIST}/{held['reservation_id']}/bind"
        assert (await client.post(bind, json={"pid": 4_000_000})).status_code == 409
        assert (await client.post(bind, json={})).status_code == 422
        assert (await client.post(bind, json={"pid": 1, "container_id": "a"})).status_code == 422
        assert (await client.post(bind, json={"container_id": "../x"})).status_code == 422
        assert (await client.post(bind, json={"container_id": "a" * 64})).status_code == 409
        assert (await client.get(LIST)).json()["reservations"][0]["state"] == "created"


async def test_a_cordoned_gpu_takes_nothing_new_even_after_a_restart(tmp_path: Path) -> None:
    readings = two_gpus()
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        assert (await client.post("/api/v1/gpu/1/cordon")).json()["cordoned"] is True
        assert (await client.post("/api/v1/gpu/7/cordon")).status_code == 404
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        refused = await client.post(RESERVE, json={"gpu_indices": [1], "required_mb": 1})
        assert refused.json()["type"] == "urn:compute:error:gpu-not-usable"
        fit = await client.post("/api/v1/gpu/can-fit", json={"required_mb": 1, "gpu_count": 2})
        assert fit.json()["fits"] is False
        await client.post("/api/v1/gpu/1/uncordon")
        taken = await client.post(RESERVE, json={"gpu_indices": [1], "required_mb": 1})
        assert taken.status_code == 201
