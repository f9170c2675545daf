"""What a soak does to a suite: work through the queue, questions, heartbeats of a small fleet."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from subprocess import DEVNULL, PIPE, Popen

import httpx

from compute_cli.suite import child_environment
from compute_common.tasks import end_tasks
from tests.support.suite import RunningSuite

FLEET = 100
CONNECTIONS = 4
CALIBRATION_SECONDS = 5.0
CLIENTS = 8
MOST_PER_SECOND = 100.0
WAITED_FOR = 10  # every so many items somebody waits for the result
QUESTIONS_PER_SECOND = 10.0


@dataclass(frozen=True)
class Timed:
    """One answer: when it was asked, since the beginning, and how long it took; seconds."""

    kind: str
    at: float
    took: float


class SoakLoad:
    """`timed` and `failed` since `began`; `per_second` is half of what `calibrate` reached."""

    def __init__(self, suite: RunningSuite, client: httpx.AsyncClient) -> None:
        self._suite, self._client = suite, client
        self._random = Random(1)  # noqa: S311 - a load, not a secret
        self._number = 0
        self._open: set[asyncio.Task[None]] = set()
        self.began = time.monotonic()
        self.per_second = 0.0
        self.timed: list[Timed] = []
        self.failed: list[str] = []

    async def calibrate(self) -> None:
        """A closed loop of some clients for some seconds, each waits for the result of what it submits."""
        deadline = time.monotonic() + CALIBRATION_SECONDS
        done = 0

        async def client() -> None:
            nonlocal done
            while time.monotonic() < deadline:
                await self._work(wait=True)
                done += 1

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        self.per_second = min(MOST_PER_SECOND, done / CALIBRATION_SECONDS / 2)

    async def run(self, seconds: float) -> None:
        """Open loops side by side for so long."""
        self.began, self.timed, self.failed = time.monotonic(), [], []
        asks: tuple[Callable[[], Awaitable[None]], ...] = (self._query, self._states, self._stats)
        loops = [self._at(self.per_second, self._next, seconds)]
        loops += [self._at(QUESTIONS_PER_SECOND, ask, seconds) for ask in asks]
        await asyncio.gather(*loops)
        while self._open:
            await asyncio.wait(self._open)

    async def stop(self) -> None:
        await end_tasks(self._open)

    async def _at(self, per_second: float, ask: Callable[[], Awaitable[None]], seconds: float) -> None:
        due = time.monotonic()
        while due - self.began < seconds:
            due += self._random.expovariate(per_second)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._noted(ask))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _noted(self, ask: Callable[[], Awaitable[None]]) -> None:
        try:
            await ask()
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self.failed.append(repr(error))

    async def _next(self) -> None:
        await self._work(wait=self._number % WAITED_FOR == 0)

    async def _work(self, *, wait: bool) -> None:
        self._number += 1
        body: dict[str, object] = {"work_type": "nothing", "payload": {"number": self._number}}
        base = self._suite.url("work-marshaling")
        asked = time.monotonic()
        answer = await self._post(f"{base}/api/v1/work/submit", body)
        self._note("submit", asked)
        if wait:
            path = f"{base}/api/v1/work/{answer.json()['work_id']}"
            item = (await self._client.get(path, params={"wait": 30})).raise_for_status().json()
            if item["status"] != "completed":
                raise ValueError(f"{item['work_id']} is {item['status']}")
            self._note("submit to result", asked)

    async def _query(self) -> None:
        asked = time.monotonic()
        url = f"{self._suite.url('node-registry')}/api/v1/nodes/query"
        await self._post(url, {"requires_gpu": True, "min_vram_gb": 24, "limit": 20})
        self._note("node query", asked)

    async def _states(self) -> None:
        await self._get("gpu states", "gpu-orchestrator", "/api/v1/gpu/states")

    async def _stats(self) -> None:
        await self._get("detect", "resource-detector", "/api/v1/detect")

    async def _get(self, kind: str, service: str, path: str) -> None:
        asked = time.monotonic()
        (await self._client.get(self._suite.url(service) + path)).raise_for_status()
        self._note(kind, asked)

    async def _post(self, url: str, body: dict[str, object]) -> httpx.Response:
        return (await self._client.post(url, json=body)).raise_for_status()

    def _note(self, kind: str, asked: float) -> None:
        now = time.monotonic()
        self.timed.append(Timed(kind, asked - self.began, now - asked))


@contextmanager
def companions(suite: RunningSuite, argvs: list[list[str]]) -> Iterator[list["Popen[str]"]]:
    """Further programs beside the suite, ended with the block."""
    environment = child_environment(suite.suite, suite.environment, "soak")
    running = [Popen(argv, env=environment, stdin=PIPE, stdout=DEVNULL, text=True) for argv in argvs]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate(timeout=10)
