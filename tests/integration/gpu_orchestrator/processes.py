"""The GPU orchestrator as a process of its own: as `compute up` runs it, or forked, which takes no time."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

READY_SECONDS = 30


def start(home: Path, port: int, **more: str) -> "subprocess.Popen[bytes]":
    """The service, once it is ready; without NATS unless NATS_URL is given."""
    settings = {
        "COMPUTE_HOME": str(home),
        "NODE_ID": "host-a",
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_WAIT_SECONDS": "0.1",
        "LOG_LEVEL": "ERROR",
        **more,
    }
    argv = [sys.executable, "-m", "uvicorn", "gpu_orchestrator.app:app", "--port", str(port)]
    options = ["--no-access-log", "--no-server-header", "--ws", "none"]
    process = subprocess.Popen([*argv, *options], env=os.environ | settings)
    _until_ready(port, lambda: process.poll() is None)
    return process


class Forks:
    """Services forked from one process that has imported everything: a kill costs no second of imports."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["uvicorn", "gpu_orchestrator.service"])

    def start(self, home: Path, port: int) -> BaseProcess:
        process = self._context.Process(target=_serve, args=(str(home), port), daemon=True)
        process.start()
        _until_ready(port, process.is_alive)
        return process


def _serve(home: str, port: int) -> None:
    import uvicorn  # noqa: PLC0415 - in the fork, where it is there already

    from compute_common.shell import create_app  # noqa: PLC0415
    from gpu_orchestrator.service import GpuOrchestrator  # noqa: PLC0415
    from gpu_orchestrator.settings import Settings  # noqa: PLC0415

    given = {
        "COMPUTE_HOME": home,
        "NODE_ID": "host-a",
        "NATS_URL": "nats://127.0.0.1:1",
        "LOG_LEVEL": "ERROR",
    }
    settings = Settings.model_validate({**given, "NATS_WAIT_SECONDS": 0.01})
    app = create_app(GpuOrchestrator(settings))
    uvicorn.run(app, port=port, access_log=False, ws="none", log_level="error")


def _until_ready(port: int, alive: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and alive():
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the service did not become ready")


@contextmanager
def running(home: Path, port: int, **more: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Started, and ended whatever happens."""
    process = start(home, port, **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
