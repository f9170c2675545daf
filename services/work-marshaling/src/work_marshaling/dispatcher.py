"""The leader: turns what the fold says into decisions, and the decisions into the log.

Event driven: every record, every change of the nodes and every due time wakes one loop. A decision under way
is remembered until the log shows it, and said again under the same message id until it is acknowledged.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from compute_common import subjects, wire_json
from compute_common.enums import WorkStatus
from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.schemas.work import Assignment, SubmitRequest
from compute_common.tasks import end_tasks
from work_marshaling import leases, placement
from work_marshaling.fleet import NodeView
from work_marshaling.items import Failure, Item
from work_marshaling.lanes import Lanes
from work_marshaling.log_reader import LogReader
from work_marshaling.log_writer import ACK_SECONDS, Bodies, LogWriter
from work_marshaling.node_follower import NodeFollower
from work_marshaling.settings import Settings
from work_marshaling.state import Outcome, WorkState

log = structlog.get_logger("dispatcher")

BATCH = 256
SWEEP_SECONDS = 0.5
AGAIN_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A decision on its way into the log; over when the item is no longer as it was when it was taken."""

    item: Item
    attempt: int
    status: WorkStatus
    failing: Failure | None
    node_id: str | None = None

    def over(self) -> bool:
        item = self.item
        return (item.attempt, item.status, item.failing) != (self.attempt, self.status, self.failing)


class Dispatcher:
    def __init__(
        self,
        settings: Settings,
        *,
        state: WorkState,
        reader: LogReader,
        writer: LogWriter,
        bodies: Bodies,
        nodes: NodeFollower,
    ) -> None:
        self._settings = settings
        self._retry_rule = settings.retry_rule()
        self._lease_rule = settings.lease_rule()
        self._reader = reader
        self._writer = writer
        self._bodies = bodies
        self._nodes = nodes
        self._me = new_id("marshaler")
        self._claimed = False
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._swept_at = 0.0
        self._fleet_seen = nodes.fleet
        self._gone_since: dict[tuple[str, str], float] = {}
        self.reset(state)

    def reset(self, state: WorkState) -> None:
        """Begin again with an empty fold."""
        self.state = state
        self.lanes = Lanes(self._settings.work_ageing_seconds)
        self.under_way: dict[str, UnderWay] = {}
        self._to_decide: set[str] = set()
        self._claimed = False

    # --- life

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="dispatcher")

    async def stop(self) -> None:
        await end_tasks([*self._tasks, self._loop])

    def wake(self) -> None:
        self._wake.set()

    @property
    def leading(self) -> bool:
        return self._reader.caught_up and self.state.leader == self._me

    def load(self) -> Mapping[str, int]:
        """Items per node: held ones, and those that are about to be."""
        load = Counter({node_id: len(held) for node_id, held in self.state.held.items()})
        load.update(way.node_id for way in self.under_way.values() if way.node_id)
        return load

    def waiting_for(self, item: Item, now: float) -> str | None:
        """Why a pending item is pending, in words."""
        if item.status is not WorkStatus.PENDING:
            return None
        if item.failing is not None:
            return f"a decision about another attempt after: {item.failing.reason[:200]}"
        if item.not_before > now:
            due = datetime.fromtimestamp(item.not_before, UTC).isoformat(timespec="seconds")
            return f"its {'retry' if item.retries else 'time'}, not before {due.replace('+00:00', 'Z')}"
        blocked = self._blocked(now)
        return placement.explain(item.demand, self._nodes.fleet, self.load(), blocked)

    def follow(self, outcome: Outcome, now: float) -> None:
        """Keep the lanes and the list of open decisions in step with the fold."""
        item = outcome.item
        if item is None:
            if outcome.event in ("lead", "forgiven"):
                self.wake()
            return
        way = self.under_way.get(item.work_id)
        if way is not None:
            if not way.over():
                return
            del self.under_way[item.work_id]
        self.lanes.update(item, now)
        if item.failing is not None:
            self._to_decide.add(item.work_id)
        else:
            self._to_decide.discard(item.work_id)
        self.wake()

    # --- the loop

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake.clear()
            try:
                await self._step()
            except Problem as problem:
                log.warning("the dispatcher waits", cause=problem.cause)
                await asyncio.sleep(0.2)
            except Exception:
                log.exception("the dispatcher stumbled")
                await asyncio.sleep(0.2)

    def _pause(self) -> float:
        due = self.lanes.next_due()
        return SWEEP_SECONDS if due is None else min(SWEEP_SECONDS, max(0.0, due - time.time()))

    async def _step(self) -> None:
        if not self._reader.caught_up:
            return
        if not self._claimed:
            await self._claim()
        if not self.leading:
            return
        now = time.time()
        self._decide_failures(now)
        if now - self._swept_at >= SWEEP_SECONDS or self._fleet_seen is not self._nodes.fleet:
            self._swept_at, self._fleet_seen = now, self._nodes.fleet
            self._sweep(now)
        self._assign(now)

    async def _claim(self) -> None:
        """Lead from here on: assignments of a marshaler that claimed earlier count no more."""
        epoch = max(self.state.epoch + 1, int(time.time()))
        body = {"decision": "lead", "by": self._me, "epoch": epoch, "v": 1}
        await self._writer.publish(subjects.WORK_DECIDED, wire_json.dump(body), f"lead:{self._me}:{epoch}")
        self._claimed = True

    # --- assignments

    def _assign(self, now: float) -> None:
        self.lanes.release(now)
        placements = placement.plan(
            self.lanes, self._nodes.fleet, self.load(), self._blocked(now), limit=BATCH
        )
        for item, node in placements:
            self._remember(item, node.node_id)
            self._spawn(self._publish_assignment(item, node))
        if len(placements) == BATCH:
            self.wake()

    def _blocked(self, now: float) -> placement.Blocked:
        blacklist = self.state.blacklist
        return lambda node_id, work_type: blacklist.blocks(node_id, work_type, now)

    async def _publish_assignment(self, item: Item, node: NodeView) -> None:
        way = self.under_way[item.work_id]
        body = await self._submitted_body(item, way)
        if body is None:
            return
        message = wire_json.dump(self._assignment(item, node, body))
        await self._say(
            item, way, subjects.WORK_ASSIGNED, message, f"a:{item.seq}:{item.attempt + 1}:{self.state.epoch}"
        )

    def _assignment(self, item: Item, node: NodeView, body: dict[str, Any]) -> Assignment:
        request = SubmitRequest.model_validate(body)
        now = time.time()
        expires = datetime.fromtimestamp(now + item.timeout_seconds, UTC)
        return Assignment(
            work_id=item.work_id,
            request_id=item.work_id,
            node_id=node.node_id,
            attempt=item.attempt + 1,
            epoch=self.state.epoch,
            work_type=request.work_type,
            workload_type=request.work_type,
            model_name=request.model_name,
            priority=item.priority,
            payload=request.payload,
            metadata=request.metadata,
            timeout_seconds=item.timeout_seconds,
            assigned_at=datetime.fromtimestamp(now, UTC),
            lease_expires_at=expires,
            expires_at=expires,
            fenced=node.fenced,
            session=node.session,
        )

    async def _submitted_body(self, item: Item, way: UnderWay) -> dict[str, Any] | None:
        """The submission, read back from the log; None when the item went another way meanwhile."""
        for pause in (*AGAIN_SECONDS, None):
            if self.under_way.get(item.work_id) is not way:
                return None
            try:
                body = await self._bodies.read(item.seq)
            except Problem:
                body = None
            if body is not None:
                return body
            if pause is not None:
                await asyncio.sleep(pause)
        self._abandon(item, way)
        return None

    # --- ends of attempts

    def _decide_failures(self, now: float) -> None:
        for work_id in list(self._to_decide):
            item = self.state.items.get(work_id)
            self._to_decide.discard(work_id)
            if item is not None and item.failing is not None and work_id not in self.under_way:
                self._decide(item, item.failing, now)

    def _sweep(self, now: float) -> None:
        """Take items back from holders that have lost them."""
        fleet = self._nodes.fleet
        known = self._nodes.answered_at is not None
        for node_id, held in list(self.state.held.items()):
            node = fleet.nodes.get(node_id)
            for work_id in list(held):
                item = self.state.items[work_id]
                gone_for = self._gone_for(item, node, now) if known else 0.0
                failure = leases.lost(item, node, gone_for, now, self._lease_rule)
                if failure is not None and work_id not in self.under_way:
                    self._decide(item, failure, now)
        self._gone_since = {key: at for key, at in self._gone_since.items() if key[0] in self.state.held}

    def _gone_for(self, item: Item, node: NodeView | None, now: float) -> float:
        """Seconds since the registry lost the holder, or a fenced one stopped naming the work type."""
        key = (str(item.holder), item.demand.work_type)
        if node is not None and (not item.fenced or node.takes(item.demand.work_type)):
            self._gone_since.pop(key, None)
            return 0.0
        return now - self._gone_since.setdefault(key, now)

    def _decide(self, item: Item, failure: Failure, now: float) -> None:
        body = leases.verdict(item, failure, now, self._retry_rule)
        final = bool(body.get("final"))
        subject = subjects.WORK_FAILED if final else subjects.WORK_RETRIED
        way = self._remember(item, None)
        message_id = f"{'f' if final else 'r'}:{item.seq}:{item.attempt}:{self.state.epoch}"
        self._spawn(self._say(item, way, subject, wire_json.dump(body), message_id))

    # --- saying it

    def _remember(self, item: Item, node_id: str | None) -> UnderWay:
        way = UnderWay(item, item.attempt, item.status, item.failing, node_id)
        self.under_way[item.work_id] = way
        return way

    async def _say(self, item: Item, way: UnderWay, subject: str, body: bytes, message_id: str) -> None:
        """Publish until the log has acknowledged it or the item has gone another way."""
        turn = 0
        while self.under_way.get(item.work_id) is way and not way.over():
            try:
                seq = await self._writer.publish(subject, body, message_id)
            except Problem as problem:
                if problem.status == 413:
                    log.error("a decision is too large for the log", work_id=item.work_id)
                    self._too_large(item, way)
                    return
                await asyncio.sleep(AGAIN_SECONDS[min(turn, len(AGAIN_SECONDS) - 1)])
                turn += 1
            else:
                await self._reader.reached(seq, ACK_SECONDS)
                if self._reader.position >= seq:
                    self._release(item, way)
                    return

    def _release(self, item: Item, way: UnderWay) -> None:
        """The log has the decision; where the fold refused it (too late) the item is looked at anew."""
        if self.under_way.get(item.work_id) is way and not way.over():
            del self.under_way[item.work_id]
            self.follow(Outcome("refused", item), time.time())

    def _too_large(self, item: Item, way: UnderWay) -> None:
        """An assignment is a little larger than its submission: one that does not fit ends the item."""
        if self.under_way.get(item.work_id) is way:
            reason = "payload-too-large: the assignment exceeds the server's max_payload"
            failure = Failure("payload-too-large", reason, None, retryable=False)
            self._decide(item, failure, time.time())

    def _abandon(self, item: Item, way: UnderWay) -> None:
        """The submission can no longer be read from the log: the item ends, and says why."""
        if self.under_way.get(item.work_id) is way:
            failure = Failure(
                "payload-lost", "its payload is no longer in the work log", None, retryable=False
            )
            self._decide(item, failure, time.time())

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
