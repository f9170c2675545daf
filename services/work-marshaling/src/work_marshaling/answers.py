"""Items as the wire shows them."""

from datetime import UTC, datetime
from typing import Any

from compute_common.enums import WorkStatus
from compute_common.schemas.work import (
    BlacklistEntry,
    HistoryEntry,
    SubmitAnswer,
    WorkItem,
    WorkStats,
)
from work_marshaling.blacklist import Blacklist
from work_marshaling.items import Item
from work_marshaling.state import WorkState


def stamp(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def work_item(item: Item, default_retries: int, **more: Any) -> WorkItem:
    """The item without what only the log has (`more`: result, progress, metadata, waiting_for)."""
    return WorkItem(
        work_id=item.work_id,
        request_id=item.work_id,
        status=item.status,
        work_type=item.demand.work_type,
        model_name=item.demand.model,
        priority=item.priority,
        assigned_node=item.last_node if item.status in _SHOWS_NODE else None,
        attempt=item.attempt,
        retry_count=item.retries,
        max_retries=default_retries if item.max_retries is None else item.max_retries,
        timeout_seconds=item.timeout_seconds,
        queue_timeout_seconds=item.queue_timeout,
        set_aside=item.poison,
        not_before=stamp(item.not_before) if item.not_before else None,
        error_message=item.error,
        created_at=stamp(item.created),
        updated_at=stamp(item.updated),
        **more,
    )


_SHOWS_NODE = frozenset({WorkStatus.ASSIGNED, WorkStatus.COMPLETED, WorkStatus.FAILED})


def history(item: Item) -> list[HistoryEntry]:
    begun = HistoryEntry(at=stamp(item.created), event="submitted")
    return [begun] + [
        HistoryEntry(
            at=stamp(step.at),
            event=step.event,
            node_id=step.node_id,
            attempt=step.attempt,
            reason=step.reason,
        )
        for step in item.history
    ]


def submitted(item: Item, warnings: list[str]) -> SubmitAnswer:
    return SubmitAnswer(
        work_id=item.work_id, status=item.status, submitted_at=stamp(item.created), warnings=warnings
    )


def stats(state: WorkState) -> WorkStats:
    totals, counts = state.totals, state.counts
    finished = counts[WorkStatus.COMPLETED]
    return WorkStats(
        total_requests=totals.submitted,
        pending=counts[WorkStatus.PENDING],
        assigned=counts[WorkStatus.ASSIGNED],
        completed=finished,
        failed=counts[WorkStatus.FAILED],
        cancelled=counts[WorkStatus.CANCELLED],
        retried=totals.retried,
        timed_out=totals.timed_out,
        avg_assignment_time_ms=_mean_ms(totals.wait_seconds, totals.assignments),
        avg_completion_time_ms=_mean_ms(totals.run_seconds, totals.completions),
    )


def blacklist(entries: Blacklist, now: float) -> list[BlacklistEntry]:
    return [
        BlacklistEntry(
            node_id=node_id, failures=record.failures, until=stamp(record.until), reason=record.reason
        )
        for node_id, _, record in entries.cooling(now)
    ]


def _mean_ms(seconds: float, count: int) -> float | None:
    return round(seconds / count * 1000, 3) if count else None
