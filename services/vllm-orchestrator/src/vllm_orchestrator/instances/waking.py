"""Idle instances come back when somebody asks for them."""

import asyncio
import time

import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, unavailable
from vllm_orchestrator.instances.desk import Desk
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.runner import AWAY
from vllm_orchestrator.instances.table import InstanceTable

log = structlog.get_logger("instances")

LOOK_SECONDS = 0.1
AWAY_LOOK_SECONDS = 1.0
AWAY_SECONDS = 60  # so long a host may be silent until it is known to be lost, or is back


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
        host_deadline = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < deadline:
            record = self._desk.require(name)
            if record.status is InstanceStatus.READY:
                return
            _check(record)
            pause = LOOK_SECONDS
            # one that is stopping on another host may do so for ever: that host may have died of it
            if record.status is InstanceStatus.STOPPED or self._stops_elsewhere(record):
                begun = await self._start(name, patient=time.monotonic() < host_deadline)
                pause = LOOK_SECONDS if begun and not self._stops_elsewhere(record) else AWAY_LOOK_SECONDS
            await asyncio.sleep(pause)
        raise Problem(504, "not-woken", f"'{name}' was idle and is not ready within {self._limit:g} s")

    def _stops_elsewhere(self, record: Record) -> bool:
        return record.status is InstanceStatus.STOPPING and record.node_id != self._node_id

    async def _start(self, name: str, *, patient: bool) -> bool:
        """False while its host is away, if `patient`: it is moved once that host is known to be lost."""
        try:
            instance = await self._desk.start(name)
        except Problem as problem:
            pinned = self._desk.require(name).request.get("node_id") is not None
            if problem.cause not in AWAY or pinned or not patient:
                raise
            return False
        known = self._table.get(name)
        if known is not None and known.node_id != self._node_id:  # before its own event tells
            known.status, known.wakeable = instance.status, instance.wakeable
        return True


def _check(record: Record) -> None:
    """Problem 503 where it will not wake any more."""
    name = record.instance_name
    if record.status is InstanceStatus.FAILED:
        raise unavailable("not-woken", f"'{name}' was idle and does not start: {record.last_error}")
    if record.status is InstanceStatus.STOPPED and not record.wakeable:
        raise unavailable("not-woken", f"'{name}' was stopped meanwhile; start it, or try again")
