"""The service in its own process on a played machine: the real nvidia-ml-py against the compiled NVML."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from tests.support.nvml import MIB, Gpu, Played, Scenario
from tests.support.ports import free_port
from tests.support.waiting import until

MARGIN_MB = 256
STATES = "/api/v1/gpu/states"


class PlayedHost:
    """A running orchestrator, the machine it sees, and what a test asks of it."""

    def __init__(self, client: httpx.AsyncClient, played: Played, pid: int) -> None:
        self.client = client
        self.played = played
        self.pid = pid

    async def states(self) -> dict[str, Any]:
        answer = await self.client.get(STATES)
        assert answer.status_code == 200, answer.text
        states: dict[str, Any] = answer.json()
        return states

    async def gpu(self, index: int) -> dict[str, Any]:
        gpus = (await self.states())["gpus"]
        return next(gpu for gpu in gpus if gpu["index"] == index)

    async def reserve(self, required_mb: int, *indices: int) -> httpx.Response:
        body = {"gpu_indices": list(indices), "required_mb": required_mb}
        return await self.client.post("/api/v1/gpu/reserve", json=body)

    async def reserved(self, required_mb: int, *indices: int) -> str:
        """The id of a reservation that is made."""
        answer = await self.reserve(required_mb, *indices)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["reservation_id"])

    async def bind(self, reservation_id: str, **holder: object) -> httpx.Response:
        return await self.client.post(f"/api/v1/gpu/reservations/{reservation_id}/bind", json=holder)

    async def reservation(self, reservation_id: str) -> dict[str, Any]:
        listed = (await self.client.get("/api/v1/gpu/reservations")).json()["reservations"]
        return next(each for each in listed if each["reservation_id"] == reservation_id)

    async def until_gpu(self, index: int, seconds: float = 10, **wanted: object) -> None:
        """Until that GPU's state has these values."""

        async def holds() -> bool:
            gpu = await self.gpu(index)
            return all(gpu[name] == value for name, value in wanted.items())

        try:
            await until(holds, seconds)
        except TimeoutError:
            raise AssertionError(f"wanted {wanted} of {await self.gpu(index)}") from None


@asynccontextmanager
async def played_host(
    library: Path, scenario: Scenario, home: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[PlayedHost]:
    """`uvicorn gpu_orchestrator.app:app` without NATS, looking at the machine ten times a second."""
    port = free_port()
    played = Played(library, scenario, home)
    environment = {
        "NATS_URL": "nats://127.0.0.1:1",
        "NODE_ID": "box.1",
        "NATS_WAIT_SECONDS": "0.01",
        "GPU_POLL_SECONDS": "0.1",
        "COMPUTE_HOME": str(home / "compute"),
        **played.environment,
        **(settings or {}),
    }
    command = ["uvicorn", "gpu_orchestrator.app:app", "--host", "127.0.0.1", "--port", str(port)]
    log = (home / "service.log").open("ab")
    process = subprocess.Popen(  # noqa: ASYNC220 - started once, before anything waits
        [sys.executable, "-m", *command, "--log-level", "error"],
        env={**os.environ, **environment},
        stdout=log,
        stderr=log,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
            await until(lambda: _ready(client), 20)
            yield PlayedHost(client, played, process.pid)
            process.terminate()
            assert await asyncio.to_thread(process.wait, 10) is not None
    finally:
        process.kill()
        process.wait()
        log.close()


async def _ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def engine(*command: str, pipe: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A real process in a session of its own; by default one that only sleeps."""
    argv = command or ("sleep", "600")
    end = subprocess.PIPE if pipe else subprocess.DEVNULL
    with subprocess.Popen(argv, start_new_session=True, text=True, stdin=end, stdout=end) as process:
        try:
            yield process
        finally:
            process.kill()


def using(scenario: Scenario, index: int, used_mib: Mapping[int, int]) -> Scenario:
    """The same machine with these processes (MiB by pid) on one card, beside 600 MiB of its driver's."""
    processes: dict[int, int | None] = {pid: mib * MIB for pid, mib in used_mib.items()}
    return changed(scenario, index, used_mib=600 + sum(used_mib.values()), processes=processes)


def changed(scenario: Scenario, index: int, **fields: Any) -> Scenario:
    """The same machine with one card told otherwise."""
    gpus = list(scenario.gpus)
    gpus[index] = replace(gpus[index], **fields)
    return replace(scenario, gpus=tuple(gpus))


def told(gpu: Gpu, **values: int | str) -> Gpu:
    return replace(gpu, values={**gpu.values, **values})
