"""The owner of a host takes cards or RAM back: by REST, over NATS, in quiet hours, across restarts."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.times import rfc3339, utc_now
from gpu_orchestrator.service import GpuOrchestrator
from tests.integration.gpu_orchestrator.hosts import Readings, orchestrator, two_gpus
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until

YIELDS = "/api/v1/gpu/yields"
RESERVE = "/api/v1/gpu/reserve"


async def lent(client: httpx.AsyncClient) -> list[tuple[int | None, str]]:
    found = (await client.get(YIELDS)).json()["yields"]
    return sorted((each["gpu_index"], each["source"]) for each in found)


async def test_a_yielded_card_takes_nothing_and_is_back_at_its_deadline(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        held = (await client.post(RESERVE, json={"gpu_indices": [0], "required_mb": 100})).json()
        answer = (await client.post(YIELDS, json={"gpu_indices": [0], "for_seconds": 0.6})).json()
        assert [r["reservation_id"] for r in answer["yields"][0]["reservations"]] == [held["reservation_id"]]
        states = (await client.get("/api/v1/gpu/states")).json()["gpus"]
        assert [(gpu["cordoned"], gpu["available_mb"] > 0) for gpu in states] == [
            (True, False),
            (False, True),
        ]
        refused = await client.post(RESERVE, json={"gpu_indices": [0, 1], "required_mb": 1})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:compute:error:yielded")
        assert refused.json()["devices"][0]["until"] == answer["yields"][0]["until"]
        fit = (await client.post("/api/v1/gpu/can-fit", json={"required_mb": 1, "gpu_count": 1})).json()
        assert fit["gpu_indices"] == [1]

        async def taken_back() -> bool:
            return await lent(client) == []

        await until(taken_back)
        assert (await client.post(RESERVE, json={"gpu_indices": [0], "required_mb": 1})).status_code == 201


async def test_every_card_or_the_ram_of_a_host_without_one(tmp_path: Path) -> None:
    async with serving(orchestrator(tmp_path / "gpus", readings=two_gpus())) as client:
        await client.post(YIELDS)
        assert await lent(client) == [(0, "operator"), (1, "operator")]
        assert (await client.post(RESERVE, json={"gpu_indices": [], "required_mb": 1})).status_code == 201
        await client.post(YIELDS, json={"gpu_indices": []})
        assert (await client.post(RESERVE, json={"gpu_indices": [], "required_mb": 1})).status_code == 409
    async with serving(orchestrator(tmp_path / "ram", readings=Readings())) as client:
        await client.post(YIELDS)
        assert await lent(client) == [(None, "operator")]
        fit = (await client.post("/api/v1/gpu/can-fit", json={"required_mb": 1, "gpu_count": 0})).json()
        assert fit["fits"] is False
        assert (await client.get("/api/v1/gpu/states")).json()["host_memory"]["available_mb"] == 0


async def test_yields_and_cordons_survive_a_restart_and_end_apart(tmp_path: Path) -> None:
    readings = two_gpus()
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        await client.post("/api/v1/gpu/0/cordon")
        await client.post(YIELDS, json={"until": rfc3339(utc_now() + timedelta(hours=3))})
        before = (await client.get(YIELDS)).json()["yields"]
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        assert (await client.get(YIELDS)).json()["yields"] == before
        ended = await client.post(f"{YIELDS}/end", json={"gpu_indices": [1]})
        assert [each["gpu_index"] for each in ended.json()["yields"]] == [0]
        await client.post(f"{YIELDS}/end")
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        assert await lent(client) == []
        states = (await client.get("/api/v1/gpu/states")).json()["gpus"]
        assert [gpu["cordoned"] for gpu in states] == [True, False]


async def test_a_deadline_that_passed_while_the_service_was_down_is_kept(tmp_path: Path) -> None:
    readings = two_gpus()
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        await client.post(YIELDS, json={"for_seconds": 0.05})
    async with serving(orchestrator(tmp_path, readings=readings)) as client:
        await until(lambda: _none_lent(client))


async def _none_lent(client: httpx.AsyncClient) -> bool:
    return await lent(client) == []


def quiet_service(home: Path, hours: str) -> GpuOrchestrator:
    service = orchestrator(home, readings=two_gpus())
    settings = service.settings.model_copy(update={"quiet_hours": hours})
    return GpuOrchestrator(settings, two_gpus().observer())


async def test_quiet_hours_begin_by_themselves_and_an_operator_may_end_them(tmp_path: Path) -> None:
    here = utc_now().astimezone()
    soon, before = here + timedelta(hours=2), here - timedelta(hours=1)
    hours = f"{before:%H:%M}-{soon:%H:%M}"
    end = rfc3339(soon.replace(second=0, microsecond=0))
    async with serving(quiet_service(tmp_path, hours)) as client:
        assert await lent(client) == [(0, "quiet hours"), (1, "quiet hours")]
        assert {each["until"] for each in (await client.get(YIELDS)).json()["yields"]} == {end}
        await client.post(f"{YIELDS}/end")
    async with serving(quiet_service(tmp_path, hours)) as client:  # today's are over, restart or not
        assert await lent(client) == []
        assert (await client.post(RESERVE, json={"gpu_indices": [0], "required_mb": 1})).status_code == 201
    async with serving(quiet_service(tmp_path / "other", f"{soon:%H:%M}-{before:%H:%M}")) as client:
        assert await lent(client) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"gpu_indices": [7]}, 409),
        ({"gpu_indices": [-1]}, 422),
        ({"for_seconds": 0}, 422),
        ({"for_seconds": 1e9}, 422),
        ({"until": "2020-01-01T00:00:00Z"}, 422),
        ({"until": "2999-01-01T00:00:00Z"}, 422),
        ({"until": "soon"}, 422),
        ({"until": "2999-01-01T00:00:00Z", "for_seconds": 5}, 422),
        ({"gpu_indices": "all"}, 422),
    ],
)
async def test_senseless_wishes_change_nothing(tmp_path: Path, body: dict[str, Any], status: int) -> None:
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        refused = await client.post(YIELDS, json=body)
        assert refused.status_code == status
        assert refused.headers["content-type"] == "application/problem+json"
        assert await lent(client) == []


async def test_another_host_is_asked_over_nats(tmp_path: Path, nats_server: NatsServer, bus: Bus) -> None:
    far = orchestrator(tmp_path / "b", nats_server.url, two_gpus(), "box.b")
    near = orchestrator(tmp_path / "a", nats_server.url, node_id="box.a")
    events: list[dict[str, Any]] = []

    async def note(event: dict[str, Any]) -> None:
        events.append(event)

    await bus.subscribe(subjects.GPU_STATE, note)
    await bus.flush()
    async with serving(far), serving(near) as client:
        answer = await client.post(f"{YIELDS}?node_id=box.b", json={"gpu_indices": [1], "for_seconds": 60})
        assert answer.json()["node_id"] == "box.b"
        assert await lent(client) == []
        standing = (await client.get(f"{YIELDS}?node_id=box.b")).json()["yields"]
        assert [each["gpu_index"] for each in standing] == [1]
        refused = await client.post(f"{RESERVE}?node_id=box.b", json={"gpu_indices": [1], "required_mb": 1})
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:compute:error:yielded")
        over_nats = await bus.request(subjects.gpu_subject("end-yield", "box.b"), {})
        assert over_nats["yields"] == []
        assert (await client.post(f"{YIELDS}?node_id=nowhere")).status_code == 404
    await until(lambda: [each["event"] for each in events] == ["yielded", "yield-ended"])
    assert {each["node_id"] for each in events} == {"box.b"}
