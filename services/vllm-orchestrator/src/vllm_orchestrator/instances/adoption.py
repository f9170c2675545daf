"""What a starting orchestrator finds: engines are taken over, started again, or ended; nothing runs twice."""

import asyncio

import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from vllm_orchestrator.engines import process as engines
from vllm_orchestrator.engines.binary import LlamaServers
from vllm_orchestrator.engines.marks import MarkedEngine, marked_engines
from vllm_orchestrator.engines.process import EngineProcess
from vllm_orchestrator.instances import launch
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.equipment import equip
from vllm_orchestrator.instances.parts import Parts
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.roster import Roster
from vllm_orchestrator.instances.runner import Runner
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("instances")


class Adoption:
    """Records say what should be, marks and files say what is."""

    def __init__(
        self,
        roster: Roster,
        parts: Parts,
        *,
        table: InstanceTable,
        tools: Tools,
        announcer: Announcer,
        llama: LlamaServers,
    ) -> None:
        self._roster = roster
        self._parts = parts
        self._table = table
        self._tools = tools
        self._announcer = announcer
        self._llama = llama

    async def adopt(self) -> None:
        """After a start: every own record, then every engine that belongs to none of them."""
        marked = await asyncio.to_thread(marked_engines, self._tools.owner)
        parts = self._parts.adopt(marked)
        found = [engine for engine in marked if engine not in parts]
        for engine in found:
            if not self._belongs(engine):
                await self._end_stranger(engine)
        for record in self._table.own():
            await self.take_up(record.instance_name, found)
        for file in self._tools.files.all():
            known = self._table.get(file.instance_name)
            here = known is not None and known.node_id == self._tools.node_id
            if not here and file.instance_name not in self._parts:
                await engines.end(file.process, self._tools.settings.engine_stop_seconds)
                self._tools.files.remove(file.instance_name)

    def _belongs(self, engine: MarkedEngine) -> bool:
        record = self._table.get(engine.instance_name)
        ours = record is not None and record.node_id == self._tools.node_id
        return ours and engine.leads and record is not None and engine.epoch == record.epoch

    async def take_up_new(self) -> None:
        """Records given to this host since: by one that was taken over from a lost host, say."""
        for record in self._table.own():
            if record.desired == "ready" and record.instance_name not in self._roster:
                await self.take_up(record.instance_name, [])

    async def take_up(self, name: str, found: list[MarkedEngine]) -> None:
        """Make one own record true again, unless it is being supervised already."""
        async with self._roster.lock(name):  # a client may be deploying it already
            record = self._table.get(name)
            if record is None or record.attached or name in self._roster:
                return
            if record.node_id != self._tools.node_id:
                return
            running = self._running(record, found)
            if record.desired == "ready":
                await self._resume(record, running)
                return
            if running is not None or record.status is InstanceStatus.STOPPING or record.reservation_key:
                if running is not None:
                    record.pid, record.start_time = running.pid, running.start_time
                await self._roster.end(record)
            if record.desired == "removed":
                await self._table.remove(name)
                await self._announcer.tell(record, "removed")

    def _running(self, record: Record, found: list[MarkedEngine]) -> EngineProcess | None:
        """The engine of the record's present life, whichever of mark, file and record knows it."""
        for engine in found:
            if engine.instance_name == record.instance_name and engine.epoch == record.epoch and engine.leads:
                record.port = engine.port or record.port
                return engine.process
        file = self._tools.files.read(record.instance_name)
        process = file.process if file is not None else record.process
        same_life = file is None or file.epoch == record.epoch
        return process if process is not None and same_life and engines.alive(process) else None

    async def _resume(self, record: Record, running: EngineProcess | None) -> None:
        if running is not None and record.port is not None:
            log.info("engine adopted", instance=record.instance_name, pid=running.pid)
            record.pid, record.start_time = running.pid, running.start_time
            if self._tools.files.read(record.instance_name) is None:
                launch.note(record, self._tools, {})
            self._roster.supervise(Runner(record, self._tools, running))
            return
        log.info("engine started again", instance=record.instance_name)
        await Runner(record, self._tools, running or record.process).stop()
        record.status = InstanceStatus.STARTING
        record.ready_at = None
        try:
            await equip(record, self._llama)
        except Problem as problem:  # one instance without its binary must not keep the others down
            record.status, record.last_error = InstanceStatus.FAILED, problem.detail
            record.desired = "stopped"
            await self._announcer.changed(record)
            return
        self._roster.supervise(Runner(record, self._tools))

    async def _end_stranger(self, engine: MarkedEngine) -> None:
        """End a group that no record of this host accounts for: a cut short start, an old life, orphans."""
        async with self._roster.lock(engine.instance_name):
            supervised = self._roster.process(engine.instance_name)
            if supervised is not None and supervised.pid == engine.process.pid:
                return
            log.warning("an engine without a record is ended", instance=engine.instance_name)
            await engines.end(engine.process, self._tools.settings.engine_stop_seconds)
