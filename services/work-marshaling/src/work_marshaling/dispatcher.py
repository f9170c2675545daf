"""The leader's loop: turns what the fold says into decisions, and the decisions into the log.

Event driven: every record, every change of the nodes and every due time wakes it. One message holds many
decisions, and the next is thought of when the fold has the last one: what was decided meanwhile is known.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from compute_common.bus import Bus
from compute_common.enums import WorkStatus
from compute_common.problems import Problem
from compute_common.tasks import end_tasks
from work_marshaling import leases, placement
from work_marshaling.deliveries import Deliveries
from work_marshaling.fleet import NodeView
from work_marshaling.items import Failure, Item
from work_marshaling.lanes import Lanes
from work_marshaling.leader import Leader
from work_marshaling.log_writer import Bodies, LogWriter
from work_marshaling.node_follower import NodeFollower
from work_marshaling.outcome import Outcome
from work_marshaling.settings import Settings
from work_marshaling.state import WorkState

log = structlog.get_logger("dispatcher")

BATCH = 256
SWEEP_SECONDS = 0.5
PAUSE_SECONDS = 0.2


@dataclass(slots=True)
class Draft:
    """The decisions of one message."""

    retry: list[dict[str, Any]] = field(default_factory=list)
    fail: list[dict[str, Any]] = field(default_factory=list)
    assign: list[dict[str, Any]] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        return {"decision": "decide", "retry": self.retry, "fail": self.fail, "assign": self.assign}


class Dispatcher:
    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        state: WorkState,
        leader: Leader,
        writer: LogWriter,
        bodies: Bodies,
        nodes: NodeFollower,
    ) -> None:
        self._settings = settings
        self._retry_rule = settings.retry_rule()
        self._lease_rule = settings.lease_rule()
        self._leader = leader
        self._nodes = nodes
        self._deliveries = Deliveries(bus, leader, writer, bodies, self._impossible)
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._swept_at = 0.0
        self._fleet_seen = nodes.fleet
        self._gone_since: dict[tuple[str, str], float] = {}
        self._led = False
        self.reset(state)

    def reset(self, state: WorkState) -> None:
        """Begin again with another fold."""
        self.state = state
        self.lanes = Lanes(self._settings.work_ageing_seconds)
        self._to_decide: dict[str, Failure] = {}
        now = time.time()
        for item in state.items.values():
            if item.status is WorkStatus.PENDING:
                self._enlist(item, now)

    # --- life

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="dispatcher")

    async def stop(self) -> None:
        await end_tasks([self._loop])
        await self._deliveries.stop()

    def wake(self) -> None:
        self._wake.set()

    @property
    def leading(self) -> bool:
        return self._leader.leading

    def load(self) -> Mapping[str, int]:
        """Items per node."""
        return Counter({node_id: len(held) for node_id, held in self.state.held.items()})

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
        if item is not None:
            self._enlist(item, now)
            self._deliveries.follow(outcome, self.state)
        if item is not None or outcome.event in ("lead", "forgiven"):
            self.wake()

    def _enlist(self, item: Item, now: float) -> None:
        self.lanes.update(item, now)
        if item.failing is not None:
            self._to_decide[item.work_id] = item.failing
        else:
            self._to_decide.pop(item.work_id, None)

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
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:
                log.exception("the dispatcher stumbled")
                await asyncio.sleep(PAUSE_SECONDS)

    def _pause(self) -> float:
        due = self.lanes.next_due()
        return SWEEP_SECONDS if due is None else min(SWEEP_SECONDS, max(0.0, due - time.time()))

    async def _step(self) -> None:
        await self._leader.claim()
        led, self._led = self._led, self._leader.leading
        if not self._led:
            return
        if not led:
            self._deliveries.tell_rest(self.state)
        await self._commit(self._draft(time.time()))

    async def _commit(self, draft: Draft) -> None:
        """Into the log, and what did not come about is thought of again."""
        if not draft.items:
            return
        try:
            if not await self._leader.decide(draft.body()):
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            now = time.time()
            for item in draft.items:
                if self.state.items.get(item.work_id) is item:
                    self._enlist(item, now)
            self.wake()

    # --- what to decide

    def _draft(self, now: float) -> Draft:
        draft = Draft()
        for work_id, failure in list(self._to_decide.items())[:BATCH]:
            item = self.state.items.get(work_id)
            if item is None or item.status.final:
                self._to_decide.pop(work_id)
            else:
                self._judge(draft, item, failure, now)
        if now - self._swept_at >= SWEEP_SECONDS or self._fleet_seen is not self._nodes.fleet:
            self._swept_at, self._fleet_seen = now, self._nodes.fleet
            self._sweep(draft, now)
            self._deliveries.look_after(self.state)
        self._assign(draft, now)
        return draft

    def _assign(self, draft: Draft, now: float) -> None:
        self.lanes.release(now)
        placements = placement.plan(
            self.lanes, self._nodes.fleet, self.load(), self._blocked(now), limit=BATCH
        )
        for item, node in placements:
            draft.assign.append(_assignment(item, node, now))
            draft.items.append(item)

    def _blocked(self, now: float) -> placement.Blocked:
        blacklist = self.state.blacklist
        return lambda node_id, work_type: blacklist.blocks(node_id, work_type, now)

    def _sweep(self, draft: Draft, now: float) -> None:
        """Take items back from holders that have lost them; end those that waited long enough."""
        fleet = self._nodes.fleet
        known = self._nodes.answered_at is not None
        for node_id, held in self.state.held.items():
            node = fleet.nodes.get(node_id)
            for work_id in held:
                item = self.state.items[work_id]
                gone_for = self._gone_for(item, node, now) if known else 0.0
                failure = leases.lost(item, node, gone_for, now, self._lease_rule)
                if failure is not None and len(draft.items) < BATCH:
                    self._judge(draft, item, failure, now)
        for item in self.lanes.out_of_patience(now):
            failure = leases.out_of_patience(item, now)
            if failure is not None:
                self._to_decide[item.work_id] = failure
                self.wake()
        self._gone_since = {key: at for key, at in self._gone_since.items() if key[0] in self.state.held}

    def _gone_for(self, item: Item, node: NodeView | None, now: float) -> float:
        """Seconds since the registry lost the holder, or a fenced one stopped naming the work type."""
        key = (str(item.holder), item.demand.work_type)
        if node is not None and (not item.fenced or node.takes(item.demand.work_type)):
            self._gone_since.pop(key, None)
            return 0.0
        return now - self._gone_since.setdefault(key, now)

    def _judge(self, draft: Draft, item: Item, failure: Failure, now: float) -> None:
        """Another attempt, or the end."""
        body = leases.verdict(item, failure, now, self._retry_rule)
        (draft.fail if body.get("final") else draft.retry).append(body)
        draft.items.append(item)
        self.lanes.take(item)

    def _impossible(self, item: Item, failure: Failure) -> None:
        self._to_decide[item.work_id] = failure
        self.wake()


def _assignment(item: Item, node: NodeView, now: float) -> dict[str, Any]:
    return {
        "work_id": item.work_id,
        "node_id": node.node_id,
        "attempt": item.attempt + 1,
        "expires_at": datetime.fromtimestamp(now + item.timeout_seconds, UTC),
        "fenced": node.fenced,
        "session": node.session,
        "own_subject": node.own_subjects,
    }
