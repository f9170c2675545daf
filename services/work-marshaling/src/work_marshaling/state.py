"""The truth of the queue: a deterministic fold over the log. No clock, no I/O."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from compute_common import subjects
from compute_common.enums import WorkStatus
from compute_common.schemas import work
from work_marshaling import events
from work_marshaling.blacklist import Blacklist
from work_marshaling.events import Record
from work_marshaling.items import ERROR_LIMIT, Failure, Item
from work_marshaling.kept import Kept, Limits
from work_marshaling.leadership import Leadership
from work_marshaling.submission import flaw, new_item, reserved, same

TIME_CAUSES = frozenset({"timeout", "silent", "queue-timeout"})
NODE_CAUSES = frozenset({"error", "timeout", "silent"})  # what a node is to blame for
POISON = "poison"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one record did: `event` and its item, or `ignored` and why; of a decision about many its parts."""

    event: str
    item: Item | None = None
    reason: str | None = None
    parts: tuple["Outcome", ...] = ()

    def each(self) -> tuple["Outcome", ...]:
        return self.parts or (self,)


@dataclass(slots=True)
class Totals:
    """Since the beginning of the queue; snapshots keep them."""

    submitted: int = 0
    retried: int = 0
    timed_out: int = 0
    assignments: int = 0
    completions: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0


def ignored(reason: str, item: Item | None = None) -> Outcome:
    return Outcome("ignored", item, reason)


class WorkState(Kept):
    """`apply` every record of the log in order, each once; what it says then is what is so."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.ignored: Counter[str] = Counter()
        self.totals = Totals()
        self.blacklist = Blacklist(limits.blacklist)
        self.leadership = Leadership()
        self.before_change: Callable[[Item], None] | None = None  # a snapshot in the making wants to know

    @property
    def epoch(self) -> int:
        return self.leadership.epoch

    @property
    def leader(self) -> str:
        return self.leadership.leader

    def apply(self, record: Record) -> Outcome:
        """Fold one record in. A record at or before `position` was applied already and changes nothing."""
        if record.seq <= self.position:
            return ignored("replayed")
        self.position = record.seq
        event = events.parse(record)
        outcome = self._apply(record, event)
        if record.subject == subjects.WORK_DECIDED:
            self.leadership.decided_seq = record.seq
        for part in outcome.each():
            if part.event == "ignored":
                self.ignored[part.reason or "unknown"] += 1
        return outcome

    def _apply(self, record: Record, event: events.Event | events.Refused) -> Outcome:
        if isinstance(event, events.Refused):
            return ignored(event.reason)
        if isinstance(event, events.Submitted):
            return self._submitted(record, event)
        if isinstance(event, events.Decided):
            return self._decided(record, event)
        announced = _announcement(event) if self.leadership.guarded else None
        return self._of_item(record, event) if announced is None else self._announced(announced)

    def _of_item(self, record: Record, event: events.ItemEvent) -> Outcome:
        item = self.items.get(event.work_id)
        if item is None:
            return ignored("unknown-item")
        if item.status.final:
            return ignored("already-final", item)
        if self.before_change is not None:
            self.before_change(item)
        return self._happened(record, item, event)

    def _happened(self, record: Record, item: Item, event: events.ItemEvent) -> Outcome:
        """An event of an item that has not ended."""
        match event:
            case events.Assigned():
                outcome = self._assigned(record, item, event)
            case work.Completed():
                outcome = self._completed(record, item, event)
            case events.Failed():
                outcome = self._failed(record, item, event)
            case work.Progress():
                outcome = self._progressed(record, item, event)
            case events.Retried():
                outcome = self._retried(record, item, event)
            case work.Cancelled():
                outcome = self._cancelled(record, item, event)
        return outcome

    # --- submission

    def _submitted(self, record: Record, event: events.Submitted) -> Outcome:
        request = event.request
        named = request.work_id is not None or request.idempotency_key is not None
        mark = events.fingerprint(request) if named else None
        existing = self._existing(request, record.time)
        if existing is not None:
            return ignored("repeated-submit" if same(existing, mark) else "conflicting-submit", existing)
        work_id = request.work_id or f"w-{record.seq}"
        if reserved(work_id, record.seq) or work_id in self.items:
            return ignored("reserved-id")
        item = new_item(work_id, record, request, mark, self._demands.of(request))
        item.failing = flaw(event, item, self._limits.max_body_bytes)
        self.take_in(item)
        self.totals.submitted += 1
        return Outcome("submitted", item)

    def _existing(self, request: work.SubmitRequest, now: float) -> Item | None:
        """The item of that id or key, unless it ended so long ago that it is forgotten."""
        found = self.items.get(request.work_id) if request.work_id else None
        if found is None and request.idempotency_key:
            found = self.by_key(request.idempotency_key)
        ended = self._finals.get(found.work_id) if found else None
        if found is not None and ended is not None and now - ended >= self._limits.retention_seconds:
            self._forget(found.work_id)
            return None
        return found

    # --- what the leader decides

    def _decided(self, record: Record, event: events.Decided) -> Outcome:
        if event.decision == "forgive":
            forgiven = event.node_id is not None and self.blacklist.forgive(event.node_id)
            return Outcome("forgiven") if forgiven else ignored("nothing-to-forgive")
        if event.decision == "lead":
            refusal = self.leadership.claim(record, event)
            return ignored(refusal) if refusal else Outcome("lead")
        refusal = self.leadership.refusal(record, event)
        if refusal:
            return ignored(refusal)
        if event.move is not None:
            return self._moved(record, event.move)
        if event.store is not None:
            return self._stored(record, event.store)
        return self._decided_many(record, event)

    def _decided_many(self, record: Record, event: events.Decided) -> Outcome:
        said: list[events.ItemEvent] = [*event.retry, *event.assign]
        parts = [self._of_item(record, each) for each in said]
        for each in event.fail:
            final = each.model_copy(update={"by": events.MARSHALER, "final": True})
            parts.append(self._of_item(record, final))
        return Outcome("decided", parts=tuple(parts))

    def _announced(self, event: events.Assigned | events.Failed | events.Retried) -> Outcome:
        """What the leader tells once it is decided changes nothing; what was not decided is forged."""
        item = self.items.get(event.work_id)
        if item is None:
            return ignored("unknown-item")
        if isinstance(event, events.Assigned):
            decided = (item.attempt, item.last_node) == (event.attempt, event.node_id)
            if decided and self.before_change is not None:
                self.before_change(item)
            item.delivered = item.delivered or decided
        elif isinstance(event, events.Retried):
            runs = item.status is WorkStatus.ASSIGNED and event.attempt == item.attempt
            decided = event.attempt <= item.attempt and not runs
        else:
            decided = item.status is WorkStatus.FAILED
        return Outcome("announced") if decided else ignored("forged-decision", item)

    def _assigned(self, record: Record, item: Item, event: events.Assigned) -> Outcome:
        if not self.leadership.guarded and event.epoch < self.epoch:
            return ignored("stale-epoch", item)
        if not item.waiting or event.attempt != item.attempt + 1:
            return ignored("stale-assignment", item)
        wait = max(0.0, record.time - item.waiting_since)
        self._move(item, WorkStatus.ASSIGNED)
        item.attempt, item.holder, item.last_node = event.attempt, event.node_id, event.node_id
        item.fenced, item.session, item.own_subject = event.fenced, event.session, event.own_subject
        item.delivered = not self.leadership.guarded
        item.assigned_at, item.expires_at = record.time, event.expires_at.timestamp()
        item.heard_at = item.progress_seq = None
        self.held.setdefault(event.node_id, set()).add(item.work_id)
        self.totals.assignments += 1
        item.wait_seconds = wait
        self.totals.wait_seconds += wait
        item.note(record.time, "assigned")
        return Outcome("assigned", item)

    def _given_up(self, record: Record, item: Item, event: events.Failed) -> Outcome:
        if event.attempt != item.attempt:
            return ignored("stale-attempt", item)
        self._blame(record, item, event.cause)
        if event.cause == POISON:
            self._set_aside(item)
        item.error = event.error[:ERROR_LIMIT]
        item.note(record.time, "failed", event.error)
        self.totals.timed_out += event.cause in TIME_CAUSES
        self._finish(record, item, WorkStatus.FAILED)
        return Outcome("failed", item, "given-up")

    def _retried(self, record: Record, item: Item, event: events.Retried) -> Outcome:
        if event.attempt != item.attempt or item.waiting:
            return ignored("stale-attempt", item)
        self._blame(record, item, event.cause)
        self._move(item, WorkStatus.PENDING)
        item.failing = None
        item.not_before = event.not_before.timestamp()
        item.retries += event.counted
        self.totals.retried += 1
        self.totals.timed_out += event.cause in TIME_CAUSES
        item.note(record.time, "retried", event.reason)
        return Outcome("retried", item)

    def _moved(self, record: Record, event: events.Moved) -> Outcome:
        """The submission of a waiting or running item is read from here now."""
        item = self.items.get(event.work_id)
        if item is None:
            return ignored("unknown-item")
        if item.status.final or self.body_seq(item) != event.from_seq:
            return ignored("stale-move", item)
        self.moved[item.work_id] = record.seq
        return Outcome("moved", item)

    def _stored(self, record: Record, event: events.Stored) -> Outcome:
        """The result is in the object store; where the completion itself is gone from the log, this is it."""
        item = self.items.get(event.work_id)
        if item is None:
            return ignored("unknown-item")
        if self.before_change is not None:
            self.before_change(item)
        if item.status is WorkStatus.ASSIGNED:
            completion = work.Completed(work_id=item.work_id, node_id=event.node_id, attempt=event.attempt)
            outcome = self._completed(record, item, completion)
        elif item.status is WorkStatus.COMPLETED and item.attempt == event.attempt:
            outcome = Outcome("stored", item)
        else:
            return ignored("stale-attempt", item)
        if outcome.event != "ignored":
            item.result_seq, item.result_object = None, event.object_name
        return outcome

    # --- what nodes and clients report

    def _completed(self, record: Record, item: Item, event: work.Completed) -> Outcome:
        refusal = _not_the_holder(item, event.node_id, event.attempt)
        if refusal:
            return ignored(refusal, item)
        item.result_seq = record.seq
        item.note(record.time, "completed")
        self.blacklist.succeeded(str(item.holder), item.demand.work_type)
        self.totals.completions += 1
        self.totals.run_seconds += max(0.0, record.time - item.assigned_at)
        self._finish(record, item, WorkStatus.COMPLETED)
        return Outcome("completed", item)

    def _failed(self, record: Record, item: Item, event: events.Failed) -> Outcome:
        if event.by == events.MARSHALER and event.final:
            return self._given_up(record, item, event)
        refusal = _not_the_holder(item, event.node_id, event.attempt)
        if refusal:
            return ignored(refusal, item)
        item.error = event.error[:ERROR_LIMIT]
        item.note(record.time, "failed", event.error)
        if not event.retryable and not event.leaving:
            self._finish(record, item, WorkStatus.FAILED)
            return Outcome("failed", item)
        cause = "leaving" if event.leaving else "error"
        item.failing = Failure(cause, item.error, item.holder, counted=not event.leaving)
        self._blame(record, item, cause)
        self._move(item, WorkStatus.PENDING)
        return Outcome("attempt-failed", item)

    def _progressed(self, record: Record, item: Item, event: work.Progress) -> Outcome:
        refusal = _not_the_holder(item, event.node_id, event.attempt)
        if refusal:
            return ignored(refusal, item)
        item.heard_at = item.updated = record.time
        if event.progress is not None:
            item.progress_seq = record.seq
        return Outcome("progress", item)

    def _cancelled(self, record: Record, item: Item, event: work.Cancelled) -> Outcome:
        item.note(record.time, "cancelled", event.reason)
        self._finish(record, item, WorkStatus.CANCELLED)
        return Outcome("cancelled", item)

    # --- bookkeeping

    def _blame(self, record: Record, item: Item, cause: str) -> None:
        """Hold the end of an attempt against its holder, when it is the holder's to answer for."""
        if item.status is WorkStatus.ASSIGNED and item.holder and cause in NODE_CAUSES:
            reason = f"{item.demand.work_type}: {item.error or cause}"
            self.blacklist.failed(item.holder, item.demand.work_type, record.time, reason[:300])
            if item.holder not in item.failed_on:
                item.failed_on = (*item.failed_on, item.holder)

    def _set_aside(self, item: Item) -> None:
        """The item is to blame, not the nodes it failed on."""
        item.poison = True
        self.set_aside.add(item.work_id)
        for node_id in item.failed_on:
            self.blacklist.pardon(node_id, item.demand.work_type)


def _announcement(event: events.ItemEvent) -> events.Assigned | events.Failed | events.Retried | None:
    """The event as something that only the leader says."""
    if isinstance(event, events.Failed):
        return event if event.by == events.MARSHALER and event.final else None
    return event if isinstance(event, events.Assigned | events.Retried) else None


def _not_the_holder(item: Item, node_id: str | None, attempt: int | None) -> str | None:
    """Why a report does not count; None when it comes from the current holder about its current attempt."""
    if item.status is not WorkStatus.ASSIGNED:
        return "not-assigned"
    if node_id is None:
        if item.fenced:
            return "unsigned"
    elif node_id != item.holder:
        return "foreign-node"
    if attempt is not None and attempt != item.attempt:
        return "stale-attempt"
    return None
