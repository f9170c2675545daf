"""The items that are kept and their indices: by key, by holder, by end; and what of the log they need."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from compute_common.enums import WorkStatus
from work_marshaling.blacklist import BlacklistRule
from work_marshaling.events import Record
from work_marshaling.items import PENDING, Item
from work_marshaling.submission import Demands
from work_marshaling.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Limits:
    """Submissions above `max_body_bytes` fail; ended items stay `retention_seconds`, at most `max_final`."""

    max_body_bytes: int = (1 << 20) - (32 << 10)
    retention_seconds: float = 86_400.0
    max_final: int = 1_000_000
    blacklist: BlacklistRule = field(default_factory=BlacklistRule)


class Kept:
    """Bookkeeping only: what may happen to an item is the fold's to say."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.position = 0
        self.items: dict[str, Item] = {}  # in the order of their submission
        self.held: dict[str, set[str]] = {}
        self.counts: Counter[WorkStatus] = Counter()
        self.moved: dict[str, int] = {}  # where a submission is now, of items that were moved
        self.set_aside: set[str] = set()
        self.waiting = Waiting()
        self._demands = Demands()
        self._keys: dict[str, str] = {}
        self._finals: OrderedDict[str, float] = OrderedDict()

    def take_in(self, item: Item) -> None:
        self.items[item.work_id] = item
        self.counts[item.status] += 1
        if item.status is PENDING:
            self.waiting.enter(item)
        if item.key is not None:
            self._keys[item.key] = item.work_id

    def by_key(self, key: str) -> Item | None:
        """The item that was submitted under an idempotency key."""
        work_id = self._keys.get(key)
        return self.items.get(work_id) if work_id else None

    def body_seq(self, item: Item) -> int:
        """Where in the log the item's submission is."""
        return self.moved.get(item.work_id, item.seq)

    def _move(self, item: Item, status: WorkStatus) -> None:
        self.counts[item.status] -= 1
        self.counts[status] += 1
        if item.holder is not None:
            mine = self.held.get(item.holder, set())
            mine.discard(item.work_id)
            if not mine:
                self.held.pop(item.holder, None)
            item.holder = None
        before, item.status = item.status, status
        if before is not status and PENDING in (before, status):
            (self.waiting.enter if status is PENDING else self.waiting.leave)(item)

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
        self.moved.pop(work_id, None)
        self.set_aside.discard(work_id)
        self.counts[item.status] -= 1
        if item.key is not None and self._keys.get(item.key) == work_id:
            del self._keys[item.key]

    def floor(self) -> int:
        """The first sequence that is still needed: everything before it may be purged."""
        oldest = min(self.moved.values(), default=self.position + 1)
        for item in self.items.values():
            if item.work_id not in self.moved:
                return min(item.seq, oldest)
        return oldest

    # --- being restored

    def adopt(self, item: Item) -> None:
        """Take an item in as it was when a snapshot was made; oldest first."""
        item.demand = self._demands.shared(item.demand)
        self.take_in(item)
        if item.holder is not None:
            self.held.setdefault(item.holder, set()).add(item.work_id)
        if item.poison:
            self.set_aside.add(item.work_id)

    def settle(self) -> None:
        """After the last `adopt`: put those that have ended into the order of their ends."""
        ended = [(item.updated, item.work_id) for item in self.items.values() if item.status.final]
        self._finals = OrderedDict((work_id, at) for at, work_id in sorted(ended))
