"""The engines that this host supervises, and one lock per name, so that two requests never cross."""

import asyncio
from weakref import WeakValueDictionary

import structlog

from compute_common.enums import InstanceStatus
from vllm_orchestrator.engines.runtime import Engine
from vllm_orchestrator.instances.launch import engine_of
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.runner import Runner
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("instances")

ENDED = (InstanceStatus.STOPPED, InstanceStatus.FAILED)
AT_WORK = (InstanceStatus.READY, InstanceStatus.DEGRADED)


class Roster:
    """Runners by instance name."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._runners: dict[str, Runner] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def __contains__(self, name: str) -> bool:
        return name in self._runners

    def engine(self, name: str) -> Engine | None:
        """The engine supervised under that name now."""
        runner = self._runners.get(name)
        return runner.engine if runner is not None else None

    def supervise(self, runner: Runner) -> None:
        """Begin its life; it replaces whoever had the name and has ended."""
        self._runners[runner.record.instance_name] = runner
        runner.start()

    async def end(self, record: Record, drain_seconds: float = 0) -> None:
        """Off the routes first, then what is under way is finished, then nothing of the engine is left."""
        at_work = record.status in AT_WORK
        if record.status not in (*ENDED, InstanceStatus.PLANNED):
            record.status = InstanceStatus.STOPPING
        await self._tools.changed(record)
        await self._take(record).stop(drain_seconds=drain_seconds if at_work else 0)
        record.status = InstanceStatus.STOPPED
        record.progress = None
        await self._tools.changed(record)

    async def orphan(self, record: Record) -> None:
        """End an engine whose instance lives elsewhere now; the record is not ours to write."""
        log.warning("an orphaned engine is ended", instance=record.instance_name, epoch=record.epoch)
        async with self.lock(record.instance_name):
            await self._take(record).stop()

    async def leave(self) -> None:
        """Stop supervising; every engine goes on."""
        for runner in list(self._runners.values()):
            await runner.leave()

    def _take(self, record: Record) -> Runner:
        runner = self._runners.pop(record.instance_name, None)
        return runner or Runner(record, self._tools, engine_of(record, self._tools))
