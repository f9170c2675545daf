"""The ledger over NATS, from another host and from a plain client."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from tests.integration.gpu_orchestrator.hosts import orchestrator, two_gpus
from tests.support.apps import serving
from tests.support.nats import NatsServer


async def test_every_verb_over_nats_and_the_events(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> None:
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await bus.subscribe(subjects.GPU_STATE, events.put)
    await bus.flush()
    async with serving(orchestrator(tmp_path, nats_server.url, two_gpus(), "box.local")):

        async def ask(verb: str, body: object) -> dict[str, Any]:
            return await bus.request(subjects.gpu_subject(verb, "box.local"), body)

        made = await ask("reserve", {"gpu_indices": [0], "required_mb": 1000, "request_id": "r1"})
        ref = {"reservation_id": made["reservation_id"]}
        assert made["request_id"] == "r1"
        assert (await ask("states", {}))["gpus"][0]["reserved_mb"] == 1000
        assert (await ask("can-fit", {"required_mb": 24_000, "gpu_count": 2}))["fits"] is False
        assert (await ask("renew", ref | {"timeout_seconds": 60}))["state"] == "created"
        assert (await ask("bind", ref | {"pid": 1}))["state"] == "bound"
        assert (await ask("release", ref))["state"] == "released"
        with pytest.raises(Problem) as refused:
            await ask("reserve", {"gpu_indices": [0], "required_mb": 90_000})
        assert refused.value.extra["shortfall"][0]["shortfall_mb"] == 90_000 - 24_308
        for bad in ({}, {"reservation_id": "../../x"}, {"reservation_id": 7}):
            with pytest.raises(Problem, match="wrong or missing"):
                await ask("release", bad)
        assert (await ask("cordon", {"index": 0}))["cordoned"] is True
        assert (await ask("uncordon", {"index": 0}))["cordoned"] is False
        for bad in ({}, {"index": -1}, {"index": "all"}):
            with pytest.raises(Problem, match="wrong or missing"):
                await ask("cordon", bad)
        seen = [await asyncio.wait_for(events.get(), 5) for _ in range(6)]
        told = ["reserved", "renewed", "bound", "released", "cordoned", "uncordoned"]
        assert [event["event"] for event in seen] == told
        assert {event["node_id"] for event in seen} == {"box.local"}


async def test_garbage_leaves_the_subscription_alive(
    tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    async with serving(orchestrator(tmp_path, nats_server.url, two_gpus())):
        subject = subjects.gpu_subject("reserve", "host-a")
        for junk in (b"\xff\xfe", b'{"gpu_indices": [', b"[]", b'{"gpu_indices": [0], "required_mb": NaN}'):
            await bus.client.publish(subject, junk)
        made = await bus.request(subject, {"gpu_indices": [0], "required_mb": 5})
        assert made["reserved_mb"] == 5


async def test_a_question_for_another_host_is_forwarded(tmp_path: Path, nats_server: NatsServer) -> None:
    far = orchestrator(tmp_path / "b", nats_server.url, two_gpus(1_000, 2_000), "host-b")
    near = orchestrator(tmp_path / "a", nats_server.url, node_id="host-a")
    async with serving(far), serving(near) as client:
        states = (await client.get("/api/v1/gpu/states?node_id=host-b")).json()
        assert [gpu["used_mb"] for gpu in states["gpus"]] == [1_000, 2_000]
        taken = await client.post(
            "/api/v1/gpu/reserve?node_id=host-b", json={"gpu_indices": [1], "required_mb": 10}
        )
        assert taken.status_code == 201
        refused = await client.post(
            "/api/v1/gpu/reserve?node_id=host-b", json={"gpu_indices": [9], "required_mb": 10}
        )
        assert (refused.status_code, refused.json()["known_indices"]) == (409, [0, 1])
        assert (await client.get("/api/v1/gpu/states?node_id=nowhere")).status_code == 404
        assert (await client.get("/api/v1/gpu/states?node_id=..%2Fx")).status_code == 422
        fit = await client.post(
            "/api/v1/gpu/can-fit?node_id=host-b", json={"required_mb": 23_000, "gpu_count": 1}
        )
        assert fit.json()["gpu_indices"] == [0]


async def test_a_reservation_and_a_cordon_of_another_host(tmp_path: Path, nats_server: NatsServer) -> None:
    """What one host was asked to reserve elsewhere it can renew, bind and give back there, too."""
    far = orchestrator(tmp_path / "b", nats_server.url, two_gpus(), "host-b")
    near = orchestrator(tmp_path / "a", nats_server.url, two_gpus(), "host-a")
    async with serving(far) as there, serving(near) as client:
        ask = {"gpu_indices": [1], "required_mb": 10}
        made = (await client.post("/api/v1/gpu/reserve?node_id=host-b", json=ask)).json()
        path = f"/api/v1/gpu/reservations/{made['reservation_id']}"
        assert (await client.post(f"{path}/renew", json={})).status_code == 404, "not of this host"
        renewed = await client.post(f"{path}/renew?node_id=host-b", json={"timeout_seconds": 900})
        assert renewed.json()["expires_at"] > made["expires_at"]
        bound = await client.post(f"{path}/bind?node_id=host-b", json={"pid": 1})
        assert (bound.status_code, bound.json()["state"]) == (200, "bound")
        assert [(await client.delete(f"{path}?node_id=host-b")).status_code for _ in range(2)] == [204, 204]
        assert (await there.get("/api/v1/gpu/reservations")).json()["count"] == 0

        cordoned = await client.post("/api/v1/gpu/1/cordon?node_id=host-b")
        assert cordoned.json() == {"node_id": "host-b", "index": 1, "cordoned": True}
        refused = await client.post("/api/v1/gpu/reserve?node_id=host-b", json=ask)
        assert (refused.status_code, refused.json()["gpus"]) == (409, [{"index": 1, "reason": "cordoned"}])
        assert (await client.post("/api/v1/gpu/reserve", json=ask)).status_code == 201, "not this host's"
        back = await client.post("/api/v1/gpu/1/uncordon?node_id=host-b")
        assert back.json()["cordoned"] is False
        assert (await client.post("/api/v1/gpu/reserve?node_id=host-b", json=ask)).status_code == 201
        for verb in ("cordon", "uncordon"):
            statuses = [
                (await client.post(f"/api/v1/gpu/{which}")).status_code
                for which in (f"9/{verb}?node_id=host-b", f"1/{verb}?node_id=nowhere", f"-1/{verb}")
            ]
            assert statuses == [404, 404, 422]


async def test_all_hosts_come_from_the_registry(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> None:
    async def registry(_query: dict[str, Any]) -> object:
        return {"nodes": [{"node_id": n} for n in ("host-a", "host-b", "host-gone")]}

    await bus.serve(subjects.NODES_QUERY, registry)
    await bus.flush()
    far = orchestrator(tmp_path / "b", nats_server.url, two_gpus(), "host-b")
    near = orchestrator(tmp_path / "a", nats_server.url, two_gpus(), "host-a")
    async with serving(far), serving(near) as client:
        states = (await client.get("/api/v1/gpu/states?node_id=all")).json()
        assert states["count"] == 4
        assert [host["node_id"] for host in states["hosts"]] == ["host-a", "host-b"]
        assert states["unreachable"] == ["host-gone"]
