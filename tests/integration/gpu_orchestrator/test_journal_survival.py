"""What the ledger promised, it keeps: across kill -9, damage and a full disk."""

import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpu_orchestrator.journal import Journal
from tests.integration.gpu_orchestrator.hosts import orchestrator, two_gpus
from tests.integration.gpu_orchestrator.processes import start
from tests.support.apps import serving
from tests.support.ports import free_port
from tests.support.waiting import until

ASK = {"gpu_indices": [], "required_mb": 10}


def test_kill_9_loses_no_promise_and_keeps_no_ended_one(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/gpu"
    first = start(tmp_path, port)
    try:
        ids = [httpx.post(f"{url}/reserve", json=ASK).json()["reservation_id"] for _ in range(5)]
        assert httpx.delete(f"{url}/reservations/{ids[2]}").status_code == 204
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
    second = start(tmp_path, port)
    try:
        kept = [r["reservation_id"] for r in httpx.get(f"{url}/reservations").json()["reservations"]]
        assert kept == ids[:2] + ids[3:]
        assert httpx.delete(f"{url}/reservations/{ids[2]}").status_code == 204
    finally:
        second.terminate()
        second.wait(10)


async def test_a_damaged_journal_is_reported_and_refuses(tmp_path: Path) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    path = service.settings.journal_path
    async with serving(service) as client:
        await client.post("/api/v1/gpu/reserve", json=ASK)
    damaged = b"this is not a database".ljust(8192, b"\xa5")
    path.write_bytes(damaged)
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        health = await client.get("/healthz")
        assert health.status_code == 503
        detail = health.json()["checks"]["journal"]["detail"]
        assert "is damaged" in detail
        assert f"remove {service.settings.journal_marker}" in detail
        for answer in (
            await client.post("/api/v1/gpu/reserve", json=ASK),
            await client.delete("/api/v1/gpu/reservations/res-1"),
        ):
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:compute:error:journal-unusable")
        assert (await client.get("/api/v1/gpu/states")).status_code == 200
    assert path.read_bytes() == damaged


async def _journal_check(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/healthz")).json()["checks"]["journal"])


@pytest.mark.parametrize("loss", ["file", "folder", "emptied", "another"])
async def test_a_lost_journal_is_never_an_empty_ledger(tmp_path: Path, loss: str) -> None:
    """Until an operator removes the marker: then the ledger starts empty, without a restart."""
    service = orchestrator(tmp_path, readings=two_gpus())
    path, marker = service.settings.journal_path, service.settings.journal_marker
    async with serving(service) as client:
        kept = (await client.post("/api/v1/gpu/reserve", json=ASK)).json()["reservation_id"]
    if loss == "folder":
        shutil.rmtree(path.parent)
    elif loss == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    if loss == "another":
        other = Journal(path, tmp_path / "other-marker")
        other.open()
        other.close()
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        check = await _journal_check(client)
        assert check["required"]
        assert not check["ok"]
        assert ("is not the one" if loss == "another" else "is missing or empty") in check["detail"]
        assert str(marker) in check["detail"]
        refused = await client.post("/api/v1/gpu/reserve", json=ASK)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:compute:error:journal-unusable")
        assert (await client.delete(f"/api/v1/gpu/reservations/{kept}")).status_code == 503
        assert (await client.post("/api/v1/gpu/0/cordon")).status_code == 503
        path.unlink(missing_ok=True)
        marker.unlink()

        async def healthy() -> bool:
            return bool((await _journal_check(client))["ok"])

        await until(healthy)
        assert (await client.post("/api/v1/gpu/reserve", json=ASK)).status_code == 201
    assert marker.exists()


async def test_a_crash_before_the_marker_was_written_is_no_loss(tmp_path: Path) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        kept = (await client.post("/api/v1/gpu/reserve", json=ASK)).json()["reservation_id"]
    service.settings.journal_marker.unlink()
    async with serving(orchestrator(tmp_path, readings=two_gpus())) as client:
        listed = (await client.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert [r["reservation_id"] for r in listed] == [kept]
    assert service.settings.journal_marker.exists()


async def test_only_one_process_holds_the_journal(tmp_path: Path) -> None:
    service = orchestrator(tmp_path, readings=two_gpus())
    holder = Journal(service.settings.journal_path, service.settings.journal_marker)
    holder.open()
    async with serving(service) as client:
        refused = await client.post("/api/v1/gpu/reserve", json=ASK)
        assert refused.status_code == 503
        assert "another process" in refused.json()["detail"]
    holder.close()


async def test_a_failed_write_promises_nothing_and_heals(tmp_path: Path) -> None:
    """A trigger stands for the full disk: SQLite refuses the write at the same place."""
    service = orchestrator(tmp_path, readings=two_gpus())
    async with serving(service) as client:
        kept = (await client.post("/api/v1/gpu/reserve", json=ASK)).json()["reservation_id"]
        journal = service.desk._journal
        db = journal._connection()
        full = (
            "CREATE TEMP TRIGGER full BEFORE INSERT ON main.reservations BEGIN SELECT RAISE(FAIL,'full'); END"
        )
        await service.desk._commit.call(lambda: db.execute(full))
        refused = await client.post("/api/v1/gpu/reserve", json=ASK)
        assert refused.status_code == 503
        assert (await client.get("/healthz")).status_code == 503
        await service.desk._commit.call(lambda: db.execute("DROP TRIGGER full"))
        await service.desk.look()
        assert (await client.get("/healthz")).json()["checks"]["journal"]["ok"] is True
        listed = (await client.get("/api/v1/gpu/reservations")).json()["reservations"]
        assert [r["reservation_id"] for r in listed] == [kept]
    with sqlite3.connect(service.settings.journal_path) as db:
        rows = db.execute("SELECT reservation_id FROM reservations WHERE state = 'created'").fetchall()
    db.close()
    assert rows == [(kept,)]
