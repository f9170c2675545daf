"""`compute backup` of a running suite, `compute restore` into another home: what was there is there again."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.suite import RunningSuite, wait_for


@pytest.fixture
def old(tmp_path: Path) -> Iterator[RunningSuite]:
    running = RunningSuite(tmp_path / "old")
    running.start("--no-node")
    yield running
    running.stop()


def compute(suite: RunningSuite, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "compute_cli.main", *arguments],
        env=suite.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def submitted(suite: RunningSuite, number: int) -> str:
    body = {"work_type": "nobody-does", "work_id": f"kept-{number}", "payload": {"number": number}}
    work_id: str = suite.post("work-marshaling", "/api/v1/work/submit", body)["work_id"]
    return work_id


def test_back_up_and_restore(old: RunningSuite, tmp_path: Path) -> None:
    for number in range(20):
        submitted(old, number)
    node = {"node_id": "far-box", "hostname": "far-box", "cpu_cores": 4, "memory_gb": 16, "work_types": ["x"]}
    old.post("node-registry", "/api/v1/nodes/register", node)
    old.post("node-registry", "/api/v1/nodes/far-box/drain", {})
    held = old.post("gpu-orchestrator", "/api/v1/gpu/reserve", {"gpu_indices": [], "required_mb": 64})
    wait_for(lambda: _stored(old, "far-box"))
    archive = tmp_path / "backup.tar.gz"

    done = compute(old, "backup", str(archive), "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["streams"]["COMPUTE_WORK"] >= 20
    assert archive.stat().st_mode & 0o077 == 0, "it holds secrets"
    submitted(old, 99)  # after the back-up: not in it
    assert "compute down" in compute(old, "restore", str(archive)).stderr
    old.stop()
    assert "--replace" in compute(old, "restore", str(archive)).stderr
    new = RunningSuite(tmp_path / "new")
    restored = compute(new, "restore", str(archive))
    assert restored.returncode == 0, restored.stderr
    new.start("--no-node")
    try:
        for number in range(20):
            item = new.get("work-marshaling", f"/api/v1/work/kept-{number}")
            assert (item["status"], item["work_type"]) == ("pending", "nobody-does"), item
        assert new.request("GET", "work-marshaling", "/api/v1/work/kept-99").status_code == 404
        assert new.get("node-registry", "/api/v1/nodes/far-box")["is_draining"]
        ledger = new.get("gpu-orchestrator", "/api/v1/gpu/reservations")
        assert held["reservation_id"] in [each["reservation_id"] for each in ledger["reservations"]]
        assert new.get("gpu-orchestrator", "/healthz")["checks"]["journal"]["ok"]
    finally:
        new.stop()


def test_what_is_no_back_up_changes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    suite = RunningSuite(home)
    hostile = tmp_path / "hostile.tar.gz"
    outside = tmp_path / "outside"
    outside.write_text("evil")
    with tarfile.open(hostile, "w:gz") as tar:
        manifest = tmp_path / "manifest.json"
        manifest.write_text(json.dumps({"format": 1, "version": "0", "streams": [], "files": ["../outside"]}))
        tar.add(manifest, "manifest.json")
        tar.add(outside, "files/../../outside")
    garbage = tmp_path / "garbage.tar.gz"
    garbage.write_bytes(b"no archive")
    for archive in (hostile, garbage, tmp_path / "absent.tar.gz"):
        done = compute(suite, "restore", str(archive))
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
    assert not (home / "outside").exists()


def _stored(suite: RunningSuite, node_id: str) -> Any:
    checks = suite.get("node-registry", "/healthz")["checks"]
    return checks["storage"]["ok"] and suite.get("node-registry", f"/api/v1/nodes/{node_id}")["is_draining"]
