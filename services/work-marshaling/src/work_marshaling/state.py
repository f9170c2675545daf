"""The truth of the queue: a deterministic fold over the log. No clock, no I/O."""

from collections import Counter
from collections.abc import Callable

from compute_common import subjects
from compute_common.schemas import work
from work_marshaling import events
from work_marshaling.attempts import COMPLETED, FAILED, Attempts
from work_marshaling.events import Record
from work_marshaling.items import ASSIGNED, Item
from work_marshaling.kept import Limits
from work_marshaling.outcome import Outcome, ignored
from work_marshaling.submission import flaw, new_item, reserved, same


class WorkState(Attempts):
    """`apply` every record of the log in order, each once; what it says then is what is so."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.ignored: Counter[str] = Counter()
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
            runs = item.status is ASSIGNED and event.attempt == item.attempt
            decided = event.attempt <= item.attempt and not runs
        else:
            decided = item.status is FAILED
        return Outcome("announced") if decided else ignored("forged-decision", item)

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
        if item.status is ASSIGNED:
            completion = work.Completed(work_id=item.work_id, node_id=event.node_id, attempt=event.attempt)
            outcome = self._completed(record, item, completion)
        elif item.status is COMPLETED and item.attempt == event.attempt:
            outcome = Outcome("stored", item)
        else:
            return ignored("stale-attempt", item)
        if outcome.event != "ignored":
            item.result_seq, item.result_object = None, event.object_name
        return outcome


def _announcement(event: events.ItemEvent) -> events.Assigned | events.Failed | events.Retried | None:
    """The event as something that only the leader says."""
    if isinstance(event, events.Failed):
        return event if event.by == events.MARSHALER and event.final else None
    return event if isinstance(event, events.Assigned | events.Retried) else None
