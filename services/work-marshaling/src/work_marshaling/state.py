"""The truth of the queue: a deterministic fold over the log. No clock, no I/O."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from compute_common.enums import WorkStatus
from compute_common.schemas import work
from work_marshaling import events
from work_marshaling.blacklist import Blacklist, BlacklistRule
from work_marshaling.events import Record
from work_marshaling.items import ERROR_LIMIT, Demand, Failure, Item

TIME_CAUSES = frozenset({"timeout", "silent"})
NODE_CAUSES = frozenset({"error", *TIME_CAUSES})  # what a node is to blame for


@dataclass(frozen=True, slots=True)
class Limits:
    """Submissions above `max_body_bytes` fail; ended items stay `retention_seconds`, at most `max_final`."""

    max_body_bytes: int = (1 << 20) - (32 << 10)
    retention_seconds: float = 86_400.0
    max_final: int = 1_000_000
    blacklist: BlacklistRule = field(default_factory=BlacklistRule)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one record did: `event` and its item, or event `ignored` and why."""

    event: str
    item: Item | None = None
    reason: str | None = None


@dataclass(slots=True)
class Totals:
    """Since the beginning of the log that is kept."""

    submitted: int = 0
    retried: int = 0
    timed_out: int = 0
    assignments: int = 0
    completions: int = 0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0


def ignored(reason: str, item: Item | None = None) -> Outcome:
    return Outcome("ignored", item, reason)


class WorkState:
    """`apply` every record of the log in order, each once; what it says then is what is so."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.position = 0
        self.items: dict[str, Item] = {}
        self.held: dict[str, set[str]] = {}
        self.counts: Counter[WorkStatus] = Counter()
        self.ignored: Counter[str] = Counter()
        self.totals = Totals()
        self.blacklist = Blacklist(limits.blacklist)
        self.epoch = 0
        self.leader = ""
        self._keys: dict[str, str] = {}
        self._finals: OrderedDict[str, float] = OrderedDict()

    def apply(self, record: Record) -> Outcome:
        """Fold one record in. A record at or before `position` was applied already and changes nothing."""
        if record.seq <= self.position:
            return ignored("replayed")
        self.position = record.seq
        event = events.parse(record)
        outcome = self._apply(record, event)
        if outcome.event == "ignored":
            self.ignored[outcome.reason or "unknown"] += 1
        return outcome

    def by_key(self, key: str) -> Item | None:
        """The item that was submitted under an idempotency key."""
        work_id = self._keys.get(key)
        return self.items.get(work_id) if work_id else None

    def _apply(self, record: Record, event: events.Event | events.Refused) -> Outcome:
        if isinstance(event, events.Refused):
            return ignored(event.reason)
        if isinstance(event, events.Submitted):
            return self._submitted(record, event)
        if isinstance(event, events.Decided):
            return self._decided(event)
        item = self.items.get(event.work_id)
        if item is None:
            return ignored("unknown-item")
        if item.status.final:
            return ignored("already-final", item)
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
        item = _new_item(work_id, record, request, mark)
        if event.size > self._limits.max_body_bytes:
            reason = f"payload-too-large: {event.size} bytes, at most {self._limits.max_body_bytes}"
            item.failing = Failure("payload-too-large", reason, None, retryable=False)
        item.note(record.time, "submitted")
        self.items[work_id] = item
        if item.key is not None:
            self._keys[item.key] = work_id
        self.counts[WorkStatus.PENDING] += 1
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

    # --- the life of an item

    def _assigned(self, record: Record, item: Item, event: events.Assigned) -> Outcome:
        if event.epoch < self.epoch:
            return ignored("stale-epoch", item)
        if item.status is not WorkStatus.PENDING or event.attempt != item.attempt + 1:
            return ignored("stale-assignment", item)
        self._move(item, WorkStatus.ASSIGNED)
        item.attempt, item.holder, item.last_node = event.attempt, event.node_id, event.node_id
        item.fenced, item.session, item.failing = event.fenced, event.session, None
        item.assigned_at, item.expires_at = record.time, event.expires_at.timestamp()
        item.heard_at = item.progress_seq = None
        self.held.setdefault(event.node_id, set()).add(item.work_id)
        self.totals.assignments += 1
        item.wait_seconds = max(0.0, record.time - max(item.updated, item.not_before))
        self.totals.wait_seconds += item.wait_seconds
        item.note(record.time, "assigned")
        return Outcome("assigned", item)

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

    def _given_up(self, record: Record, item: Item, event: events.Failed) -> Outcome:
        if event.attempt != item.attempt:
            return ignored("stale-attempt", item)
        self._blame(record, item, event.cause)
        item.error = event.error[:ERROR_LIMIT]
        item.note(record.time, "failed", event.error)
        self.totals.timed_out += event.cause in TIME_CAUSES
        self._finish(record, item, WorkStatus.FAILED)
        return Outcome("failed", item)

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

    def _decided(self, event: events.Decided) -> Outcome:
        if event.decision == "forgive":
            forgiven = event.node_id is not None and self.blacklist.forgive(event.node_id)
            return Outcome("forgiven") if forgiven else ignored("nothing-to-forgive")
        if event.epoch <= self.epoch:
            return ignored("stale-epoch")
        self.epoch, self.leader = event.epoch, event.by
        return Outcome("lead")

    # --- bookkeeping

    def _blame(self, record: Record, item: Item, cause: str) -> None:
        """Hold the end of an attempt against its holder, when it is the holder's to answer for."""
        if item.status is WorkStatus.ASSIGNED and item.holder and cause in NODE_CAUSES:
            reason = f"{item.demand.work_type}: {item.error or cause}"
            self.blacklist.failed(item.holder, item.demand.work_type, record.time, reason[:300])

    def _move(self, item: Item, status: WorkStatus) -> None:
        self.counts[item.status] -= 1
        self.counts[status] += 1
        if item.holder is not None:
            mine = self.held.get(item.holder, set())
            mine.discard(item.work_id)
            if not mine:
                self.held.pop(item.holder, None)
            item.holder = None
        item.status = status

    def _finish(self, record: Record, item: Item, status: WorkStatus) -> None:
        self._move(item, status)
        item.failing = None
        self._finals[item.work_id] = record.time
        while len(self._finals) > self._limits.max_final:
            self._forget(next(iter(self._finals)))

    def expire(self, now: float) -> None:
        """Forget final items that were kept long enough."""
        while self._finals:
            work_id, ended = next(iter(self._finals.items()))
            if now - ended < self._limits.retention_seconds:
                return
            self._forget(work_id)

    def _forget(self, work_id: str) -> None:
        item = self.items.pop(work_id)
        self._finals.pop(work_id, None)
        self.counts[item.status] -= 1
        if item.key is not None and self._keys.get(item.key) == work_id:
            del self._keys[item.key]

    def floor(self) -> int:
        """The first sequence that is still needed: everything before it may be purged."""
        oldest = next(iter(self.items.values()), None)  # items are kept in the order of the log
        return oldest.seq if oldest else self.position + 1


def same(item: Item, mark: bytes | None) -> bool:
    """Whether a submission with this fingerprint asks for what the item is."""
    return item.fingerprint is not None and item.fingerprint == mark


def reserved(work_id: str, seq: int | None = None) -> bool:
    """Whether the name is one the log gives: `w-<sequence>` belongs to the message at that sequence alone."""
    number = work_id.removeprefix("w-")
    return work_id.startswith("w-") and number.isdigit() and number != str(seq)


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


def _new_item(work_id: str, record: Record, request: work.SubmitRequest, mark: bytes | None) -> Item:
    needs = request.requirements
    demand = Demand(
        work_type=request.work_type,
        model=request.model_name or None,
        requires_gpu=needs.requires_gpu,
        min_tier_rank=needs.min_tier.rank if needs.min_tier else -1,
        min_vram_gb=needs.min_vram_gb or 0.0,
        labels=tuple(sorted(needs.labels.items())),
        node_id=needs.node_id,
    )
    return Item(
        work_id=work_id,
        seq=record.seq,
        created=record.time,
        demand=demand,
        priority=request.priority,
        timeout_seconds=request.timeout_seconds,
        max_retries=request.max_retries,
        not_before=request.not_before.timestamp() if request.not_before else 0.0,
        key=request.idempotency_key,
        fingerprint=mark,
        has_metadata=bool(request.metadata),
    )
