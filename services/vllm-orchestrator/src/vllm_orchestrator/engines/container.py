"""One engine in a container: whether it lives, its log, its end."""

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress

import structlog

from compute_common.problems import Problem
from compute_common.tasks import end_tasks
from vllm_orchestrator.engines.docker_api import ContainerState, DockerApi
from vllm_orchestrator.engines.files import EngineFiles

log = structlog.get_logger("engine")

ASK_SECONDS = 0.5  # at least between two questions
LOG_SECONDS = 2.0  # for the last lines of one that ended
AGAIN_SECONDS = 1.0
END_TRIES = 3


class ContainerEngine:
    """Its log is copied into our file as it comes, so that it is read as every engine's."""

    def __init__(self, api: DockerApi, container: str, name: str, files: EngineFiles) -> None:
        self._api = api
        self._id = container
        self._name = name
        self._files = files
        self._log = files.log(name)
        self._ended = False
        self._asked = self._measured = 0.0
        self._bytes = 0
        self._copying: asyncio.Task[None] | None = None

    @property
    def identity(self) -> str:
        return f"container {self._id[:12]}"

    @property
    def holder(self) -> Mapping[str, object]:
        return {"container_id": self._id}

    def copy_log(self, since: float) -> None:
        """From here on; `since`: seconds since the epoch up to which the file has it already."""
        if self._copying is None:
            self._copying = asyncio.create_task(self._copy(since), name=f"log of {self._name}")

    async def alive(self) -> bool:
        now = time.monotonic()
        if self._ended or now - self._asked < ASK_SECONDS:
            return not self._ended
        self._asked = now
        try:
            state = await self._api.state(self._id)
        except Problem:
            return True  # Docker is away, which is no end of the engine
        if state is None or not state.running:
            self._ended = True
            await self._last_words(state)
        return not self._ended

    async def resident_bytes(self) -> int:
        """Of its cgroup, mapped files included: what has been read of the weights shows."""
        if time.monotonic() - self._measured >= ASK_SECONDS:
            self._measured = time.monotonic()
            with suppress(Problem):
                self._bytes = await self._api.memory_bytes(self._id)
        return self._bytes

    async def look(self) -> None:
        """Nothing: its shared memory goes with it."""

    async def end(self, limit_seconds: float) -> None:
        for left in reversed(range(END_TRIES)):
            try:
                await self._api.stop(self._id, math.ceil(limit_seconds))
                await self._api.remove(self._id)
                break
            except Problem as problem:
                if not left:
                    raise
                log.warning("container not ended yet", instance=self._name, reason=problem.detail)
                await asyncio.sleep(AGAIN_SECONDS)
        self._ended = True
        self._files.forget_container(self._name, self._id)
        await self.let_go()

    async def let_go(self) -> None:
        """Copy no more."""
        await end_tasks([self._copying])

    async def _copy(self, since: float) -> None:
        """Until the container ends; Docker or its proxy may go away meanwhile."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with suppress(Problem):
                async for part in self._api.logs(self._id, since, follow=True):
                    since = time.time()
                    with self._log.open("ab") as file:
                        file.write(part)
                state = await self._api.state(self._id)
                if state is None or not state.running:
                    return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _last_words(self, state: ContainerState | None) -> None:
        """Whoever asks why it ended reads the log: let it be whole, and say what Docker knows."""
        if self._copying is not None:
            await asyncio.wait([self._copying], timeout=LOG_SECONDS)
        said = "its container was removed"
        if state is not None:
            said = f"its container exited with code {state.exit_code}"
            said += ", out of memory" if state.out_of_memory else ""
        with suppress(OSError), self._log.open("ab") as file:
            file.write(f"{said}\n".encode())
