"""The service as a process of its own, to be killed, stopped and started again."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.support import waiting
from tests.support.ports import free_port


class Process:
    """`uvicorn work_marshaling.app:app` on a free port."""

    def __init__(self, url: str, replica: str = "", **settings: str) -> None:
        self._url = url
        self.replica = replica
        self._settings = {"COMPUTE_REPLICA": replica, **settings}
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        arguments = [
            "-m",
            "uvicorn",
            "work_marshaling.app:app",
            "--port",
            str(self.port),
            "--log-level",
            "error",
        ]
        environment = {**os.environ, "NATS_URL": self._url, "NODE_ID": "test-host", "LOG_LEVEL": "ERROR"}
        environment |= self._settings
        self._process = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
        async with httpx.AsyncClient(base_url=self.base) as client:
            await waiting.until(lambda: ready(client), 20)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), 10)


async def ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def client_of(process: Process) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=process.base, timeout=30) as client:
        yield client


async def role(process: Process) -> str:
    """What /healthz says of it: leading or standing by; empty when it does not answer."""
    try:
        async with httpx.AsyncClient(base_url=process.base, timeout=1) as client:
            detail = (await client.get("/healthz")).json()["checks"]["work_log"]["detail"]
    except (httpx.TransportError, KeyError):
        return ""
    return "leading" if "leading" in detail else "standing by"
