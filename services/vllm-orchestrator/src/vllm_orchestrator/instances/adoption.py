"""What a starting orchestrator finds: engines are taken over, started again, or ended; nothing runs twice."""

import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.times import utc_now
from vllm_orchestrator.engines.runtime import Engine, FoundEngine
from vllm_orchestrator.instances import launch
from vllm_orchestrator.instances.announcer import Announcer
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
    ) -> None:
        self._roster = roster
        self._parts = parts
        self._table = table
        self._tools = tools
        self._announcer = announcer

    async def adopt(self) -> None:
        """After a start: every own record, then every engine that belongs to none of them."""
        containers = any(record.container_id for record in self._table.own())
        marked = await self._tools.runtimes.found(containers=containers)
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
                left = self._tools.runtimes.process.engine(file.instance_name, file.process)
                await left.end(self._tools.settings.engine_stop_seconds)

    def _belongs(self, engine: FoundEngine) -> bool:
        record = self._table.get(engine.instance_name)
        ours = record is not None and record.node_id == self._tools.node_id
        return ours and engine.leads and record is not None and engine.epoch == record.epoch

    async def take_up_new(self) -> None:
        """Records given to this host since: by one that was taken over from a lost host, say."""
        for record in self._table.own():
            if record.desired == "ready" and record.instance_name not in self._roster:
                await self.take_up(record.instance_name, [])

    async def take_up(self, name: str, found: list[FoundEngine]) -> None:
        """Make one own record true again, unless it is being supervised already."""
        async with self._roster.lock(name):  # a client may be deploying it already
            record = self._table.get(name)
            if record is None or record.attached or name in self._roster:
                return
            if record.node_id != self._tools.node_id:
                return
            running = await self._running(record, found)
            if record.desired == "ready":
                await self._resume(record, running)
                return
            if running is not None or record.status is InstanceStatus.STOPPING or record.reservation_key:
                if running is not None:
                    record.held_by(running.holder)
                await self._roster.end(record)
            if record.desired == "removed":
                await self._table.remove(name)
                await self._announcer.tell(record, "removed")

    async def _running(self, record: Record, found: list[FoundEngine]) -> Engine | None:
        """The engine of the record's present life, whichever of mark, file and record knows it."""
        for engine in found:
            if engine.instance_name == record.instance_name and engine.epoch == record.epoch and engine.leads:
                record.port = engine.port or record.port
                return engine.engine
        if record.container_id is not None:
            return None  # its labels would have been found
        file = self._tools.files.read(record.instance_name)
        process = file.process if file is not None else record.process
        if process is None or (file is not None and file.epoch != record.epoch):
            return None
        known = self._tools.runtimes.process.engine(record.instance_name, process)
        return known if await known.alive() else None

    async def _resume(self, record: Record, running: Engine | None) -> None:
        if running is not None and record.port is not None:
            log.info("engine adopted", instance=record.instance_name, engine=running.identity)
            record.held_by(running.holder)
            record.runtime = "docker" if record.container_id is not None else "process"
            launch.note_again(record, self._tools)
            self._roster.supervise(Runner(record, self._tools, running))
            return
        log.info("engine started again", instance=record.instance_name)
        known = launch.engine_of(record, self._tools)
        await Runner(record, self._tools, running or known).stop()
        record.status = InstanceStatus.STARTING
        record.ready_at = None
        try:
            await launch.equip(record, self._tools)
        except Problem as problem:  # one instance without its binary must not keep the others down
            record.status, record.desired = InstanceStatus.FAILED, "stopped"
            record.went_wrong(problem.detail, utc_now())
            await self._announcer.changed(record)
            return
        self._roster.supervise(Runner(record, self._tools))

    async def _end_stranger(self, engine: FoundEngine) -> None:
        """End a group that no record of this host accounts for: a cut short start, an old life, orphans."""
        async with self._roster.lock(engine.instance_name):
            supervised = self._roster.engine(engine.instance_name)
            if supervised is not None and supervised.identity == engine.engine.identity:
                return
            log.warning("an engine without a record is ended", instance=engine.instance_name)
            await engine.engine.end(self._tools.settings.engine_stop_seconds)
