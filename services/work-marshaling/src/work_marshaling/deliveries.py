"""What was decided is told: assignments to their nodes, ends and retries to whoever listens.

Only what the log has as decided is told, and only while this marshaler leads. An assignment is told until
the log has it, too: a successor tells those again that it does not have. The first time nobody waits for an
acknowledgement: the log itself is read, and one that has not come back from it is told again, acknowledged.
Only the second time it bears a message id: whoever hears both runs the attempt once.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import nats.errors
import structlog
from pydantic import ValidationError

from compute_common import subjects, tracing, wire_json
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.work import Assignment, SubmitRequest
from compute_common.tasks import end_tasks
from compute_common.times import rfc3339, utc_now
from work_marshaling.events import MARSHALER
from work_marshaling.items import ASSIGNED, Failure, Item
from work_marshaling.leader import Leader
from work_marshaling.log_writer import Bodies, LogWriter
from work_marshaling.outcome import Outcome
from work_marshaling.state import WorkState

log = structlog.get_logger("deliveries")

AGAIN_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
READ_TURNS = 5
UNHEARD_SECONDS = 1.0


class Deliveries:
    """`impossible(item, failure)` is called for an assignment that cannot be told."""

    def __init__(
        self,
        bus: Bus,
        leader: Leader,
        writer: LogWriter,
        bodies: Bodies,
        impossible: Callable[[Item, Failure], None],
    ) -> None:
        self._bus = bus
        self._leader = leader
        self._writer = writer
        self._bodies = bodies
        self._impossible = impossible
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: dict[tuple[int, int], tuple[float, Item]] = {}
        self._outbox: list[tuple[Item, int, WorkState]] = []
        self._sending: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        await end_tasks(self._tasks)

    def follow(self, outcome: Outcome, state: WorkState) -> None:
        """Tell what one part of a decision did."""
        item = outcome.item
        if item is None or not self._leader.leading:
            return
        if outcome.event == "assigned":
            self._begin(item, state)
        elif outcome.event == "retried":
            due = datetime.fromtimestamp(item.not_before, UTC)
            reason = item.history[-1].reason or "retried"
            self._announce(subjects.WORK_RETRIED, item, {"not_before": due, "reason": reason})
        elif outcome.event == "failed" and outcome.reason == "given-up":
            body = {"error": item.error, "final": True, "retryable": False, "node_id": item.last_node}
            self._announce(subjects.WORK_FAILED, item, body)
        elif outcome.event == "cancelled" and item.own_subject and item.last_node:
            self._spawn(self._cancel(item, item.last_node))

    def tell_rest(self, state: WorkState) -> None:
        """A new leader: tell what the one before decided and did not tell."""
        for held in state.held.values():
            for work_id in held:
                item = state.items[work_id]
                if not item.delivered:
                    self._begin(item, state)

    def look_after(self, state: WorkState) -> None:
        """Tell those again that were told a while ago and are not in the log."""
        now = time.monotonic()
        for key, (told_at, item) in list(self._telling.items()):
            if not self._due(item, key[1]):
                del self._telling[key]
            elif told_at + UNHEARD_SECONDS <= now:
                self._insist(item, key[1], state)

    # --- assignments

    def _begin(self, item: Item, state: WorkState) -> None:
        key = (item.seq, item.attempt)
        if key in self._telling:
            return
        self._telling[key] = (time.monotonic(), item)
        self._outbox.append((item, item.attempt, state))
        if self._sending is None or self._sending.done():
            self._sending = self._spawn(self._send())

    async def _send(self) -> None:
        """Tell all that is in the outbox, from memory and without waiting; the rest in its own time."""
        while self._outbox:
            batch, self._outbox = self._outbox, []
            assigned_at = rfc3339(utc_now())
            for item, attempt, state in batch:
                if self._due(item, attempt) and not await self._send_one(item, state, assigned_at):
                    self._insist(item, attempt, state)

    async def _send_one(self, item: Item, state: WorkState, assigned_at: str) -> bool:
        body = None if item.work_id in state.moved else self._bodies.recent(item.seq)
        if body is None or not self._bus.connected:
            return False
        submission = wire_json.parse_object(body)
        told = wire_json.dump(assignment_from(item, submission, self._leader.epoch, assigned_at))
        try:
            await self._bus.client.publish(_subject(item), told, headers=self._bodies.headers(item.seq))
        except (nats.errors.Error, OSError):
            return False
        return True

    def _insist(self, item: Item, attempt: int, state: WorkState) -> None:
        key = (item.seq, attempt)
        self._telling[key] = (math.inf, item)
        task = self._spawn(self._tell(item, attempt, state))
        task.add_done_callback(lambda _task: self._telling.pop(key, None))

    async def _tell(self, item: Item, attempt: int, state: WorkState) -> None:
        """Until the log has it, the attempt is over, or another one leads."""
        turn = 0
        while self._due(item, attempt):
            try:
                body = await self._bodies.submission(state, item)
                if body is not None and not self._due(item, attempt):
                    return
                if body is not None:
                    await self._publish(item, body, state)
                    return
                if turn >= READ_TURNS:
                    self._impossible(item, _lost(item))
                    return
            except Problem as problem:
                if problem.status == 413:
                    self._impossible(item, _too_large(item))
                    return
            except ValidationError:
                self._impossible(item, _lost(item))
                return
            await asyncio.sleep(AGAIN_SECONDS[min(turn, len(AGAIN_SECONDS) - 1)])
            turn += 1

    def _due(self, item: Item, attempt: int) -> bool:
        mine = item.status is ASSIGNED and item.attempt == attempt
        return mine and not item.delivered and self._leader.leading

    async def _publish(self, item: Item, body: dict[str, Any], state: WorkState) -> None:
        epoch = self._leader.epoch
        told = wire_json.dump(_assignment(item, body, epoch))
        with tracing.span("assignment", self._bodies.headers(state.body_seq(item)), "internal"):
            await self._writer.publish(_subject(item), told, _message_id(item, epoch))

    # --- the rest

    def _announce(self, subject: str, item: Item, more: dict[str, Any]) -> None:
        body = {"work_id": item.work_id, "attempt": item.attempt, "by": MARSHALER, "v": 1, **more}
        message_id = f"{'r' if subject == subjects.WORK_RETRIED else 'f'}:{item.seq}:{item.attempt}"
        self._spawn(self._say(subject, wire_json.dump(body), message_id))

    async def _cancel(self, item: Item, node_id: str) -> None:
        """To a node that has subjects of its own; the others hear the event itself."""
        reason = item.history[-1].reason or "cancelled"
        body = {
            "work_id": item.work_id,
            "node_id": node_id,
            "attempt": item.attempt,
            "reason": reason,
            "v": 1,
        }
        with contextlib.suppress(Problem):
            await self._bus.publish(subjects.node_subject(node_id, "cancelled"), body)

    async def _say(self, subject: str, body: bytes, message_id: str) -> None:
        """For those who watch; nothing hangs on it."""
        try:
            await self._writer.publish(subject, body, message_id)
        except Problem as problem:
            log.warning("an announcement was not recorded", subject=subject, cause=problem.cause)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _subject(item: Item) -> str:
    own = item.own_subject
    return subjects.node_subject(str(item.holder), "assigned") if own else subjects.WORK_ASSIGNED


def _message_id(item: Item, epoch: int) -> str:
    return f"a:{item.seq}:{item.attempt}:{epoch}"


def assignment_from(item: Item, submission: dict[str, Any], epoch: int, assigned_at: str) -> dict[str, Any]:
    """An `Assignment` on the wire, of a submission that the fold has validated: thousands a second."""
    expires = datetime.fromtimestamp(item.expires_at, UTC)
    return {
        "work_id": item.work_id,
        "request_id": item.work_id,
        "node_id": item.holder,
        "attempt": item.attempt,
        "epoch": epoch,
        "work_type": item.demand.work_type,
        "workload_type": item.demand.work_type,
        "model_name": item.demand.model,
        "priority": item.priority,
        "payload": submission.get("payload") or {},
        "metadata": submission.get("metadata") or {},
        "timeout_seconds": item.timeout_seconds,
        "assigned_at": assigned_at,
        "lease_expires_at": expires,
        "expires_at": expires,
        "fenced": item.fenced,
        "session": item.session,
        "v": 1,
    }


def _assignment(item: Item, body: dict[str, Any], epoch: int) -> Assignment:
    request = SubmitRequest.model_validate(body)
    expires = datetime.fromtimestamp(item.expires_at, UTC)
    return Assignment(
        work_id=item.work_id,
        request_id=item.work_id,
        node_id=str(item.holder),
        attempt=item.attempt,
        epoch=epoch,
        work_type=request.work_type,
        workload_type=request.work_type,
        model_name=request.model_name,
        priority=item.priority,
        payload=request.payload,
        metadata=request.metadata,
        timeout_seconds=item.timeout_seconds,
        assigned_at=datetime.fromtimestamp(time.time(), UTC),
        lease_expires_at=expires,
        expires_at=expires,
        fenced=item.fenced,
        session=item.session,
    )


def _lost(item: Item) -> Failure:
    return Failure("payload-lost", "its payload is no longer in the work log", item.holder, retryable=False)


def _too_large(item: Item) -> Failure:
    """An assignment is a little larger than its submission: one that does not fit ends the item."""
    reason = "payload-too-large: the assignment exceeds the server's max_payload"
    return Failure("payload-too-large", reason, item.holder, retryable=False)
