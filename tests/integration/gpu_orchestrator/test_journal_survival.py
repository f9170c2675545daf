"""What the ledger promised, it keeps: across kill -9, damage and a full disk."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import httpx

from gpu_orchestrator.journal import Journal
from tests.integration.gpu_orchestrator.hosts import orchestrator, two_gpus
from tests.support.apps import serving
from tests.support.ports import free_port

ASK = {"gpu_indices": [], "required_mb": 10}


def _start(home: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {
        "COMPUTE_HOME": str(home),
        "NODE_ID": "host-a",
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_WAIT_SECONDS": "0.1",
        "LOG_LEVEL": "ERROR",
    }
    argv = [sys.executable, "-m", "uvicorn", "gpu_orchestrator.app:app", "--port", str(port)]
    process = subprocess.Popen(argv, env=os.environ | settings)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError("the service did not become ready")


def test_kill_9_loses_no_promise_and_keeps_no_ended_one(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1/gpu"
    first = _start(tmp_path, port)
    try:
        ids = [httpx.post(f"{url}/reserve", json=ASK).json()["reservation_id"] for _ in range(5)]
        assert httpx.delete(f"{url}/reservations/{ids[2]}").status_code == 204
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
    second = _start(tmp_path, port)
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
