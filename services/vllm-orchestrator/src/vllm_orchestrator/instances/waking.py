"""Idle instances come back when somebody asks for them."""

import asyncio
import time

import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, unavailable
from vllm_orchestrator.instances.desk import Desk
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.table import InstanceTable

log = structlog.get_logger("instances")

LOOK_SECONDS = 0.1


class Waker:
    """`wake` starts one idle instance of a model, however many ask at once, and waits until it is ready."""

    def __init__(self, desk: Desk, table: InstanceTable, node_id: str, limit_seconds: float) -> None:
        self._desk = desk
        self._table = table
        self._node_id = node_id
        self._limit = limit_seconds

    def asleep(self, model: str) -> list[Record]:
        """Idle instances that answer to `model`, ignoring case; those of this host first."""
        wanted = model.lower()
        found = [
            record
            for record in self._table.all()
            if record.wakeable and any(name.lower() == wanted for name in record.served_names)
        ]
        return sorted(found, key=lambda record: record.node_id != self._node_id)

    async def wake(self, model: str) -> None:
        """Return at once when nothing of that name sleeps. Problem where it cannot be started now."""
        sleeping = self.asleep(model)
        if not sleeping:
            return
        name = sleeping[0].instance_name
        log.info("idle instance wakes", instance=name)
        deadline = time.monotonic() + self._limit
        while time.monotonic() < deadline:
            record = self._desk.require(name)
            if record.status is InstanceStatus.READY:
                return
            if record.status is InstanceStatus.FAILED:
                raise unavailable("not-woken", f"'{name}' was idle and does not start: {record.last_error}")
            if record.status is InstanceStatus.STOPPED:
                if not record.wakeable:
                    raise unavailable("not-woken", f"'{name}' was stopped meanwhile; start it, or try again")
                await self._start(name)
            await asyncio.sleep(LOOK_SECONDS)
        raise Problem(504, "not-woken", f"'{name}' was idle and is not ready within {self._limit:g} s")

    async def _start(self, name: str) -> None:
        instance = await self._desk.start(name)
        known = self._table.get(name)
        if known is not None and known.node_id != self._node_id:  # before its own event tells
            known.status, known.wakeable = instance.status, instance.wakeable
