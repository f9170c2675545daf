"""What makes no sense is refused with a reason, and changes neither the ledger nor its journal."""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpu_orchestrator.service import GpuOrchestrator
from tests.integration.gpu_orchestrator.hosts import orchestrator, two_gpus
from tests.support.apps import serving
from tests.support.waiting import until

API = "/api/v1/gpu"
HELD = {"gpu_indices": [0], "required_mb": 100, "owner": "mine", "idempotency_key": "held"}
DAY = 86_400

RESERVATIONS: list[tuple[str, dict[str, Any], int, str]] = [
    ("negative size", {"required_mb": -1}, 422, "invalid-request"),
    ("zero size", {"required_mb": 0}, 422, "invalid-request"),
    ("size beyond any machine", {"required_mb": 1 << 70}, 422, "invalid-request"),
    ("size as a fraction", {"required_mb": 0.5}, 422, "invalid-request"),
    ("size beyond this card", {"required_mb": 1 << 29}, 409, "insufficient-memory"),
    ("negative index", {"gpu_indices": [-1]}, 422, "invalid-request"),
    ("absurd index", {"gpu_indices": [1 << 40]}, 422, "invalid-request"),
    ("unknown index", {"gpu_indices": [0, 9]}, 409, "unknown-gpu"),
    ("the same index twice", {"gpu_indices": [1, 1]}, 422, "duplicate-gpu"),
    ("more indices than any host has", {"gpu_indices": list(range(300))}, 422, "invalid-request"),
    ("indices as a word", {"gpu_indices": "all"}, 422, "invalid-request"),
    ("no time", {"timeout_seconds": 0}, 422, "invalid-request"),
    ("time back", {"timeout_seconds": -5}, 422, "invalid-request"),
    ("time beyond the maximum", {"timeout_seconds": DAY + 1}, 422, "invalid-request"),
    ("time for ever", {"timeout_seconds": 1e308}, 422, "invalid-request"),
    ("an owner too long", {"owner": "x" * 600}, 422, "invalid-request"),
    ("a key that made another", {"idempotency_key": "held"}, 409, "idempotency-key-reused"),
]

ON_ONE: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("renew for too long", "renew", {"timeout_seconds": DAY + 1}, 422, "invalid-request"),
    ("renew for less than nothing", "renew", {"timeout_seconds": -1}, 422, "invalid-request"),
    ("renew another's", "renew", {"owner": "theirs"}, 409, "not-yours"),
    ("bind another's", "bind", {"pid": os.getpid(), "owner": "theirs"}, 409, "not-yours"),
    ("bind a pid that is not there", "bind", {"pid": 4_000_000}, 409, "no-such-process"),
    (
        "bind a pid with another start",
        "bind",
        {"pid": os.getpid(), "start_time": 1.0},
        409,
        "no-such-process",
    ),
    ("bind no pid", "bind", {"pid": 0}, 422, "invalid-request"),
    ("bind a pid beyond the kernel's", "bind", {"pid": 1 << 40}, 422, "invalid-request"),
    ("bind nothing", "bind", {}, 422, "invalid-request"),
    ("bind two things", "bind", {"pid": 1, "container_id": "a" * 64}, 422, "invalid-request"),
    ("bind a container that is not there", "bind", {"container_id": "a" * 64}, 409, "no-such-container"),
    ("bind half a container id", "bind", {"container_id": "abc"}, 422, "invalid-request"),
]


def journal_rows(service: GpuOrchestrator) -> list[tuple[Any, ...]]:
    """All that is on disk; read in the journal's own connection, which holds the file alone."""
    db: sqlite3.Connection = service.desk._journal._connection()
    return [
        *db.execute("SELECT reservation_id, state, document FROM reservations ORDER BY rowid"),
        *db.execute("SELECT * FROM cordons"),
        *db.execute("SELECT * FROM facts ORDER BY name"),
    ]


async def everything(client: httpx.AsyncClient, service: GpuOrchestrator) -> dict[str, Any]:
    """States, reservations and the journal, less the clock."""
    states = (await client.get(f"{API}/states")).json()
    states.pop("timestamp")
    listed = (await client.get(f"{API}/reservations")).json()
    if service.desk._background:  # an expiry is written a moment after it is seen
        await asyncio.wait(service.desk._background)
    rows = await service.desk._commit.call(lambda: journal_rows(service))
    return {"states": states, "reservations": listed, "journal": rows}


def assert_refused(answer: httpx.Response, status: int, cause: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["type"]) == (status, f"urn:compute:error:{cause}"), body
    assert len(body["detail"]) > 20
    assert body["error"] == body["detail"]


@pytest.mark.parametrize(
    ("change", "status", "cause"), [row[1:] for row in RESERVATIONS], ids=[row[0] for row in RESERVATIONS]
)
async def test_reservations(tmp_path: Path, change: dict[str, Any], status: int, cause: str) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        await client.post(f"{API}/reserve", json=HELD)
        before = await everything(client, service)
        body = {"gpu_indices": [1], "required_mb": 10} | change
        assert_refused(await client.post(f"{API}/reserve", json=body), status, cause)
        assert await everything(client, service) == before


@pytest.mark.parametrize(
    ("verb", "body", "status", "cause"), [row[1:] for row in ON_ONE], ids=[row[0] for row in ON_ONE]
)
async def test_on_a_living_reservation(
    tmp_path: Path, verb: str, body: dict[str, Any], status: int, cause: str
) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        held = (await client.post(f"{API}/reserve", json=HELD)).json()["reservation_id"]
        before = await everything(client, service)
        assert_refused(await client.post(f"{API}/reservations/{held}/{verb}", json=body), status, cause)
        assert await everything(client, service) == before


async def test_on_ended_and_unknown_reservations(tmp_path: Path) -> None:
    """Expired or released: 409 that says so; never given out, or no id at all: 404 and 422."""
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        short = {"gpu_indices": [1], "required_mb": 5, "timeout_seconds": 0.05}
        expired = (await client.post(f"{API}/reserve", json=short)).json()["reservation_id"]
        released = (await client.post(f"{API}/reserve", json=HELD)).json()["reservation_id"]
        await client.delete(f"{API}/reservations/{released}")

        async def empty() -> bool:
            return bool((await client.get(f"{API}/reservations")).json()["count"] == 0)

        await until(empty)
        before = await everything(client, service)
        for verb, body in (("renew", {}), ("bind", {"pid": os.getpid()})):
            for ended in (expired, released):
                path = f"{API}/reservations/{ended}/{verb}"
                assert_refused(await client.post(path, json=body), 409, "reservation-ended")
            path = f"{API}/reservations/res-of-another-host/{verb}"
            assert_refused(await client.post(path, json=body), 404, "unknown-reservation")
            path = f"{API}/reservations/a%20b/{verb}"
            assert_refused(await client.post(path, json=body), 422, "invalid-request")
        assert_refused(await client.delete(f"{API}/reservations/res-never"), 404, "unknown-reservation")
        assert await everything(client, service) == before


async def test_bound_to_another_already(tmp_path: Path) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        held = (await client.post(f"{API}/reserve", json=HELD)).json()["reservation_id"]
        path = f"{API}/reservations/{held}/bind"
        assert (await client.post(path, json={"pid": os.getpid()})).status_code == 200
        before = await everything(client, service)
        assert_refused(await client.post(path, json={"pid": 1}), 409, "already-bound")
        assert await everything(client, service) == before
