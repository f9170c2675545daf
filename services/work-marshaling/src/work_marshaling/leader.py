"""Holding the lead: a lease says who should decide, a claim in the log says who does.

The lease alone would not do: its holder may stand still and wake up. So every decision is a compare-and-set
behind the last one, and the claim is the first of them.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.ids import new_id
from compute_common.lease import Lease, LeaseTerms
from compute_common.problems import Problem
from compute_common.tasks import end_tasks, every
from work_marshaling.events import DECISION_VERSION
from work_marshaling.log_reader import LogReader
from work_marshaling.log_writer import ACK_SECONDS, LogWriter
from work_marshaling.state import WorkState

log = structlog.get_logger("leader")

TERMS = LeaseTerms("COMPUTE_WORK_LEADER", max_age_seconds=5.0, renew_seconds=1.0)


class Leader:
    """`state()` is the fold of now. `changed()` is called when the lease may have changed hands."""

    def __init__(
        self,
        bus: Bus,
        *,
        replica: str,
        reader: LogReader,
        writer: LogWriter,
        state: Callable[[], WorkState],
        changed: Callable[[], None],
    ) -> None:
        self.lease = Lease(bus, TERMS, replica)
        self.name = new_id("marshaler")
        self._bus = bus
        self._reader = reader
        self._writer = writer
        self._state = state
        self._changed = changed
        self._purged = False  # the log holds no decision any more: the server compares with 0
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._renewing = asyncio.create_task(every(TERMS.renew_seconds, self._step), name="work-leader")
        self._bus.on_connect(self._step)

    async def stop(self) -> None:
        """Let a standby take over at once."""
        await end_tasks([self._renewing])
        await self.lease.release()

    @property
    def leading(self) -> bool:
        """Whether this one decides: it holds the lease, and the log, read to its end, names it."""
        return self._reader.caught_up and self.lease.held and self._state().leader == self.name

    @property
    def epoch(self) -> int:
        return self._state().epoch

    async def _step(self) -> None:
        if await self.lease.step():
            self._changed()

    async def claim(self) -> None:
        """Take the lead where the lease is held; what others decided before is read first. `Problem`."""
        if not self._may_claim():
            return
        started = time.monotonic()
        await self._reader.up_to_date(ACK_SECONDS)
        seq = await self._publish({"decision": "lead"})
        await self._reader.reached(seq, ACK_SECONDS)
        if self.leading:
            spent = round(time.monotonic() - started, 3)
            log.info("leading", epoch=self._state().epoch, seq=seq, claimed_in_seconds=spent)

    def _may_claim(self) -> bool:
        return self.lease.held and self._reader.caught_up and not self.leading

    async def decide(self, decision: dict[str, Any]) -> bool:
        """Whether the decision is in the log and folded in. `Problem` when that is not known."""
        if not self.leading:
            return False
        try:
            seq = await self._publish({"epoch": self._state().epoch, **decision})
        except Problem as problem:
            if problem.status != 409:
                raise
            await self._reader.up_to_date(ACK_SECONDS)
            return False
        return await self._reader.reached(seq, ACK_SECONDS)

    async def _publish(self, decision: dict[str, Any]) -> int:
        """Behind the last decision that the fold knows: one it does not know makes this a 409."""
        body = wire_json.dump({**decision, "by": self.name, "v": DECISION_VERSION})
        last_seq = 0 if self._purged else self._state().leadership.decided_seq
        try:
            seq = await self._writer.publish_after(subjects.WORK_DECIDED, body, last_seq)
        except Problem as problem:
            if problem.status == 409:
                self._purged = await self._writer.last_seq(subjects.WORK_DECIDED) == 0
            raise
        self._purged = False
        return seq
