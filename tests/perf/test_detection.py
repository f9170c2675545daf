"""How long a detection takes: cold, again, and answered from the last one, on a played 8 × H100.

Run by `make bench`; prints its figures and holds them against the targets. NVML is the compiled scenario
library, so the time that real drivers take is not in it.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.nvml import Played, build, scenarios
from tests.support.ports import free_port

COLD_MS = 300
CACHED_MS = 5
ROUNDS = 5
ANSWERS = 200


def test_cold(tmp_path: Path) -> None:
    """The first detection of a fresh process: pynvml imported, NVML loaded, everything read."""
    environment = _environment(tmp_path)
    started = time.perf_counter()
    times = [_cold_ms(environment) for _ in range(ROUNDS)]
    whole = (time.perf_counter() - started) * 1000 / ROUNDS
    print(
        f"\ncold detection of 8 GPUs: {min(times):.0f} / {statistics.median(times):.0f} /"
        f" {max(times):.0f} ms; {whole:.0f} ms with the start and end of its process"
    )
    assert statistics.median(times) <= COLD_MS


def test_cached_and_repeated(tmp_path: Path) -> None:
    """Over HTTP from the service."""
    port = free_port()
    command = ["uvicorn", "resource_detector.app:app", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**_environment(tmp_path), "NATS_URL": "nats://127.0.0.1:1", "NATS_WAIT_SECONDS": "0.1"}
    with subprocess.Popen(
        [sys.executable, "-m", *command, "--log-level", "error"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    ) as service:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait(client)
                cached = _times_ms(client, "GET", "/api/v1/detect", ANSWERS)
                again = _times_ms(client, "POST", "/api/v1/detect/refresh", 20)
        finally:
            service.terminate()
    print(
        f"\ncached answer: median {statistics.median(cached):.2f} ms,"
        f" p95 {cached[int(0.95 * ANSWERS)]:.2f} ms; detected again: median {statistics.median(again):.1f} ms"
    )
    assert statistics.median(cached) <= CACHED_MS


def _environment(tmp_path: Path) -> dict[str, str]:
    return Played(build(tmp_path / "nvml"), scenarios.h100_x8(), tmp_path).environment


def _cold_ms(environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "resource_detector"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert len(answer["gpus"]) == 8
    return float(answer["detect_seconds"]) * 1000


def _times_ms(client: httpx.Client, method: str, path: str, count: int) -> list[float]:
    times = []
    for _number in range(count):
        started = time.perf_counter()
        answer = client.request(method, path)
        times.append((time.perf_counter() - started) * 1000)
        assert len(answer.json()["gpus"]) == 8
    return sorted(times)


def _wait(client: httpx.Client) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError("the service did not become ready")
