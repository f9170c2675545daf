"""One work item as the fold keeps it: no payload and no result, only where in the log they are."""

from dataclasses import dataclass, field
from typing import NamedTuple

from compute_common.enums import WorkStatus

PENDING, ASSIGNED = WorkStatus.PENDING, WorkStatus.ASSIGNED  # Python 3.11 takes long to look one up
HISTORY_LIMIT = 64
REASON_LIMIT = 300
ERROR_LIMIT = 2000


class Demand(NamedTuple):
    """What an item asks of a node; items that ask the same wait in the same lane."""

    work_type: str
    model: str | None = None  # as it was asked for; compared ignoring case
    requires_gpu: bool = False
    min_tier_rank: int = -1
    min_vram_gb: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()
    node_id: str | None = None


class Step(NamedTuple):
    """One line of an item's history. `at` is the log's time, seconds since 1970."""

    at: float
    event: str
    node_id: str | None
    attempt: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that ended without a result; the leader decides whether there is another one."""

    cause: str
    reason: str
    node_id: str | None
    retryable: bool = True
    counted: bool = True  # a hand-back is nobody's fault: it uses up no retry


@dataclass(slots=True)
class Item:
    """`attempt` is the fencing number: it grows with every assignment. Times are the log's.

    A million of them wait in a gigabyte: what most never need is a shared constant until they need it.
    """

    work_id: str
    seq: int
    created: float
    demand: Demand
    priority: int
    timeout_seconds: float
    updated: float = 0.0
    max_retries: int | None = None
    not_before: float = 0.0
    queue_timeout: float | None = None
    key: str | None = None
    fingerprint: bytes | None = None
    has_metadata: bool = False
    status: WorkStatus = PENDING
    attempt: int = 0
    retries: int = 0
    holder: str | None = None
    fenced: bool = False
    session: str | None = None
    own_subject: bool = False  # the holder is addressed by a subject of its own
    delivered: bool = False  # the log has this attempt's assignment, not only the decision
    assigned_at: float = 0.0
    wait_seconds: float = 0.0  # before the last assignment
    expires_at: float = 0.0
    heard_at: float | None = None  # the last progress of this attempt
    progress_seq: int | None = None
    failing: Failure | None = None
    failed_on: tuple[str, ...] = ()  # the nodes it failed on, each once
    poison: bool = False
    last_node: str | None = None
    error: str | None = None
    result_seq: int | None = None
    result_object: str | None = None
    history: tuple[Step, ...] = ()  # after its submission
    ticket: int = field(
        default=0, compare=False
    )  # the scheduler's: its place in a lane, none unless positive

    @property
    def waiting(self) -> bool:
        """Whether it may be assigned (once its `not_before` has come)."""
        return self.status is PENDING and self.failing is None

    @property
    def waiting_since(self) -> float:
        """When it began to wait; only of one that waits."""
        return max(self.updated, self.not_before)

    def note(self, at: float, event: str, reason: str | None = None) -> None:
        """Add a line to the history; of a very long one the beginning and the end are kept."""
        self.updated = at
        kept = self.history
        if len(kept) >= HISTORY_LIMIT:
            kept = kept[: HISTORY_LIMIT // 2] + kept[HISTORY_LIMIT // 2 + 1 :]
        text = reason[:REASON_LIMIT] if reason else None
        self.history = (*kept, Step(at, event, self.holder, self.attempt, text))
