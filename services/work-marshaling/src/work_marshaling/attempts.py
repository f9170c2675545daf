"""What happens to an item until it ends: given, taken back, given again, done, cancelled."""

from compute_common.enums import WorkStatus
from compute_common.schemas import work
from work_marshaling import events
from work_marshaling.blacklist import Blacklist
from work_marshaling.events import Record
from work_marshaling.items import ASSIGNED, ERROR_LIMIT, PENDING, Failure, Item
from work_marshaling.kept import Kept, Limits
from work_marshaling.leadership import Leadership
from work_marshaling.outcome import Outcome, Totals, ignored

TIME_CAUSES = frozenset({"timeout", "silent", "queue-timeout"})
NODE_CAUSES = frozenset({"error", "timeout", "silent"})  # what a node is to blame for
POISON = "poison"
COMPLETED, FAILED, CANCELLED = WorkStatus.COMPLETED, WorkStatus.FAILED, WorkStatus.CANCELLED


class Attempts(Kept):
    """Every method takes an event of an item that is kept and has not ended."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.totals = Totals()
        self.blacklist = Blacklist(limits.blacklist)
        self.leadership = Leadership()

    def _happened(self, record: Record, item: Item, event: events.ItemEvent) -> Outcome:
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

    # --- what the leader decides

    def _assigned(self, record: Record, item: Item, event: events.Assigned) -> Outcome:
        if not self.leadership.guarded and event.epoch < self.leadership.epoch:
            return ignored("stale-epoch", item)
        if not item.waiting or event.attempt != item.attempt + 1:
            return ignored("stale-assignment", item)
        wait = max(0.0, record.time - item.waiting_since)
        self._move(item, ASSIGNED)
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
        self._finish(record, item, FAILED)
        return Outcome("failed", item, "given-up")

    def _retried(self, record: Record, item: Item, event: events.Retried) -> Outcome:
        if event.attempt != item.attempt or item.waiting:
            return ignored("stale-attempt", item)
        self._blame(record, item, event.cause)
        self._move(item, PENDING)
        item.failing = None
        item.not_before = event.not_before.timestamp()
        item.retries += event.counted
        self.totals.retried += 1
        self.totals.timed_out += event.cause in TIME_CAUSES
        item.note(record.time, "retried", event.reason)
        return Outcome("retried", item)

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
        self._finish(record, item, COMPLETED)
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
            self._finish(record, item, FAILED)
            return Outcome("failed", item)
        cause = "leaving" if event.leaving else "error"
        item.failing = Failure(cause, item.error, item.holder, counted=not event.leaving)
        self._blame(record, item, cause)
        self._move(item, PENDING)
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
        self._finish(record, item, CANCELLED)
        return Outcome("cancelled", item)

    # --- bookkeeping

    def _blame(self, record: Record, item: Item, cause: str) -> None:
        """Hold the end of an attempt against its holder, when it is the holder's to answer for."""
        if item.status is ASSIGNED and item.holder and cause in NODE_CAUSES:
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


def _not_the_holder(item: Item, node_id: str | None, attempt: int | None) -> str | None:
    """Why a report does not count; None when it comes from the current holder about its current attempt."""
    if item.status is not ASSIGNED:
        return "not-assigned"
    if node_id is None:
        if item.fenced:
            return "unsigned"
    elif node_id != item.holder:
        return "foreign-node"
    if attempt is not None and attempt != item.attempt:
        return "stale-attempt"
    return None
