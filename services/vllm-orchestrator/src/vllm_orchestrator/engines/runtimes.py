"""Which runtime an engine gets on this host, and how each is found again."""

import asyncio
import shutil
from collections.abc import Callable

import structlog

from compute_common.enums import EngineKind
from compute_common.problems import Problem
from vllm_orchestrator.engines.binary import find_llama_server
from vllm_orchestrator.engines.docker_runtime import DockerRuntime
from vllm_orchestrator.engines.files import EngineFiles
from vllm_orchestrator.engines.process_runtime import ProcessRuntime
from vllm_orchestrator.engines.runtime import FoundEngine, Runtime
from vllm_orchestrator.settings import Settings

PROCESS, DOCKER = "process", "docker"
log = structlog.get_logger("engine")


class Runtimes:
    """Both, because engines outlive a change of `VLLM_RUNTIME`; Docker's is made when it is first needed."""

    def __init__(self, settings: Settings, files: EngineFiles, owner: str, node_id: str) -> None:
        self.process = ProcessRuntime(settings, files, owner)
        self._settings = settings
        self._make: Callable[[], DockerRuntime] = lambda: DockerRuntime(settings, files, owner, node_id)
        self._docker: DockerRuntime | None = None

    @property
    def docker(self) -> DockerRuntime:
        self._docker = self._docker or self._make()
        return self._docker

    def named(self, name: str) -> Runtime:
        return self.docker if name == DOCKER else self.process

    def kinds(self) -> frozenset[EngineKind]:
        """What this host can run; a missing binary or image is named when it is needed.

        llama.cpp always; vLLM where it is on PATH, or engines run in containers.
        """
        on_path = self._settings.vllm_runtime != DOCKER and shutil.which("vllm") is not None
        vllm = self._has_containers() or on_path
        return frozenset({EngineKind.LLAMA_CPP, EngineKind.VLLM} if vllm else {EngineKind.LLAMA_CPP})

    def startable(self) -> frozenset[EngineKind]:
        """As `kinds`, without a llama.cpp that is not there: what other hosts may count on."""
        try:
            find_llama_server(self._settings.llama_server_bin)
        except Problem:
            return self.kinds() - (frozenset() if self._has_containers() else {EngineKind.LLAMA_CPP})
        return self.kinds()

    def _has_containers(self) -> bool:
        wanted = self._settings.vllm_runtime
        return wanted == DOCKER or (wanted != PROCESS and self._settings.docker_proxy.is_socket())

    async def health(self) -> str:
        """How engines run here, for people. Raises Problem 503 where they cannot."""
        if self._settings.vllm_runtime != DOCKER:
            try:
                found = find_llama_server(self._settings.llama_server_bin)
                return f"{', '.join(sorted(self.kinds()))}; llama-server at {found}"
            except Problem:
                if self._settings.vllm_runtime == PROCESS or not await self._docker_answers():
                    raise
        await self.docker.api.check()
        return f"{', '.join(sorted(self.kinds()))} in containers"

    async def equip(self, kind: EngineKind, command: list[str]) -> tuple[str, list[str]]:
        """(the runtime's name, the command as it runs it). Raises Problem 503 saying what is missing."""
        wanted = self._settings.vllm_runtime
        if wanted != DOCKER:
            try:
                return PROCESS, await self.process.equipped(kind, command)
            except Problem:
                if wanted == PROCESS or not await self._docker_answers():
                    raise
        return DOCKER, await self.docker.equipped(kind, command)

    async def found(self, *, containers: bool) -> list[FoundEngine]:
        """Every engine of ours. `containers`: some record names one, so that Docker has to be asked.

        Raises Problem 503 where Docker must be asked and does not answer: what it runs is not to run twice.
        """
        found = await self.process.found()
        if containers or self._settings.vllm_runtime == DOCKER:
            await self.docker.api.check()
            return [*found, *await self.docker.found()]
        if self._settings.vllm_runtime != PROCESS and await self._docker_answers():
            found += await self.docker.found()
        return found

    async def close(self) -> None:
        await self.process.close()
        if self._docker is not None:
            await self._docker.close()

    async def _docker_answers(self) -> bool:
        if not await asyncio.to_thread(self._settings.docker_proxy.is_socket):
            return False
        try:
            await self.docker.api.check()
        except Problem as problem:
            log.info("no docker runtime", reason=problem.detail)
            return False
        return True
