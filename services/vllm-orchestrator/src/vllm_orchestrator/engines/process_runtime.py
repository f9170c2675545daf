"""Engines as process groups of this host."""

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from compute_common.enums import EngineKind
from compute_common.problems import Problem
from vllm_orchestrator.engines import process as processes
from vllm_orchestrator.engines import shared_memory
from vllm_orchestrator.engines.binary import LlamaServers
from vllm_orchestrator.engines.files import EngineFile, EngineFiles
from vllm_orchestrator.engines.marks import marked_engines, marks
from vllm_orchestrator.engines.ports import free_port, is_free
from vllm_orchestrator.engines.process import EngineProcess, group_members
from vllm_orchestrator.engines.runtime import Engine, FoundEngine, Order, Told
from vllm_orchestrator.rendering.argv import known_words
from vllm_orchestrator.settings import Settings

log = structlog.get_logger("engine")


class ProcessEngine:
    """One group, and the file that names it to others."""

    def __init__(self, name: str, process: EngineProcess, files: EngineFiles) -> None:
        self._name = name
        self._process = process
        self._files = files

    @property
    def identity(self) -> str:
        return f"pid {self._process.pid}"

    @property
    def holder(self) -> Mapping[str, object]:
        return {"pid": self._process.pid, "start_time": self._process.start_time}

    async def alive(self) -> bool:
        return processes.alive(self._process)

    async def resident_bytes(self) -> int:
        return processes.resident_bytes(self._process)

    async def look(self) -> None:
        """Remember which segments the engine has, for the day it is killed while nobody looks."""
        file = self._files.read(self._name)
        held = shared_memory.held_by(group_members(self._process.pid))
        if file is not None and file.shared_memory != held:
            self._files.write(replace(file, shared_memory=held))

    async def end(self, limit_seconds: float) -> None:
        """No member of the group is left, no shared memory of it, no file."""
        file = self._files.read(self._name)
        left = dict(file.shared_memory) if file is not None else {}
        left |= shared_memory.held_by(group_members(self._process.pid))
        await processes.end(self._process, limit_seconds)
        swept = shared_memory.sweep(left)
        if swept:
            log.info("shared memory swept", instance=self._name, segments=len(swept))
        if file is not None and file.process == self._process:
            self._files.remove(self._name)


class ProcessRuntime:
    """Binaries of this host, in sessions of their own."""

    def __init__(self, settings: Settings, files: EngineFiles, owner: str) -> None:
        self._settings = settings
        self._files = files
        self._owner = owner
        self._llama = LlamaServers(settings.llama_server_bin)

    async def equipped(self, kind: EngineKind, command: Sequence[str]) -> list[str]:
        if kind is not EngineKind.LLAMA_CPP:
            return [vllm_binary(), *command[1:]]
        server = await self._llama.ready()
        return [str(server.path), *known_words(command[1:], server.flags)]

    def port(self, wanted: int | None, taken: Collection[int]) -> int:
        bind = self._settings.engine_bind
        if wanted is not None and wanted not in taken and is_free(bind, wanted):
            return wanted
        return free_port(bind, self._settings.port_range, taken)

    def own_host(self, instance_name: str, *, alone: bool) -> str:
        return self._settings.own_host

    def public_host(self, instance_name: str, *, alone: bool) -> str:
        return self._settings.advertise_host

    async def prepare(self, order: Order, told: Told) -> None:
        """Nothing: the binary is here."""

    async def start(self, order: Order) -> Engine:
        """The mark in its environment finds it again where we die before its file is written."""
        name = order.instance_name
        environment = {**order.environment, **marks(self._owner, name, order.epoch)}
        process = processes.spawn(order.command, environment, self._files.log(name))
        self.note(order, process)
        return ProcessEngine(name, process, self._files)

    async def found(self) -> list[FoundEngine]:
        marked = await asyncio.to_thread(marked_engines, self._owner)
        return [
            FoundEngine(each.instance_name, each.epoch, self.engine(each.instance_name, each.process),
                        each.leads, each.port)
            for each in marked
        ]  # fmt: skip

    def engine(self, name: str, process: EngineProcess) -> ProcessEngine:
        """One that a record or a file names."""
        return ProcessEngine(name, process, self._files)

    async def close(self) -> None:
        """Nothing is held."""

    def note(self, order: Order, process: EngineProcess) -> None:
        """Write the file that names the engine to others."""
        self._files.write(
            EngineFile(
                instance_name=order.instance_name,
                pid=process.pid,
                start_time=process.start_time,
                port=order.port,
                argv=list(order.command),
                epoch=order.epoch,
            )
        )


def vllm_binary() -> str:
    """Where `vllm` is on this host. Raises Problem 503."""
    binary = shutil.which("vllm")
    if binary is None:
        raise Problem(
            503,
            "no-engine",
            "vllm is not on PATH of this host: install it, run engines in containers (VLLM_RUNTIME=docker),"
            " or deploy with auto_start false and run the generated compose file",
        )
    return binary
