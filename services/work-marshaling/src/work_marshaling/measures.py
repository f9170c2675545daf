"""What Prometheus sees of the queue: counts from the fold when asked, times as they happen."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.enums import WorkStatus
from work_marshaling.events import Record
from work_marshaling.outcome import Outcome

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Measures(Collector):
    def __init__(self, service: WorkMarshaling) -> None:
        self._service = service
        registry = service.metrics.registry
        registry.register(self)
        self._events = Counter(
            "compute_work_events_total", "Records of the work log by effect", ["event"], registry=registry
        )
        self._of_event: dict[str, Counter] = {}
        self._wait = Histogram(
            "compute_work_wait_seconds",
            "From submission (or retry) to assignment",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._run = Histogram(
            "compute_work_run_seconds", "From assignment to completion", buckets=_BUCKETS, registry=registry
        )
        self._started = time.time()

    def observe(self, outcome: Outcome, record: Record) -> None:
        """Count one record; times only of what happens now, not of what is replayed."""
        counter = self._of_event.get(outcome.event)
        if counter is None:
            counter = self._of_event[outcome.event] = self._events.labels(outcome.event)
        counter.inc()
        item = outcome.item
        if item is None or record.time < self._started:
            return
        if outcome.event == "assigned":
            self._wait.observe(item.wait_seconds)
        elif outcome.event == "completed":
            self._run.observe(max(0.0, record.time - item.assigned_at))

    def collect(self) -> Iterator[Metric]:
        state = self._service.state
        now = time.time()
        counts = state.counts
        yield _gauge("compute_work_pending", "Items that wait for a node", counts[WorkStatus.PENDING])
        yield _gauge("compute_work_active", "Items that a node holds", counts[WorkStatus.ASSIGNED])
        by_status = GaugeMetricFamily("compute_work_items", "Items kept, by status", labels=["status"])
        for status in WorkStatus:
            by_status.add_metric([status.value], counts[status])
        yield by_status
        yield from self._of_pending(now)
        refused = CounterMetricFamily(
            "compute_work_ignored", "Records of the log that changed nothing, by reason", labels=["reason"]
        )
        for reason, count in state.ignored.items():
            refused.add_metric([reason], count)
        yield refused
        yield CounterMetricFamily("compute_work_retries", "Retries", value=state.totals.retried)
        yield CounterMetricFamily("compute_work_timeouts", "Expired leases", value=state.totals.timed_out)
        yield _gauge(
            "compute_work_blacklisted_nodes",
            "Nodes set aside after failures",
            len({entry[0] for entry in state.blacklist.cooling(now)}),
        )
        yield _gauge(
            "compute_work_set_aside", "Ended items that failed on several nodes", len(state.set_aside)
        )
        yield _gauge("compute_work_log_position", "Last record applied", self._service.log.position)
        yield _gauge("compute_work_leading", "1 while this one assigns", self._service.dispatcher.leading)

    def _of_pending(self, now: float) -> Iterator[Metric]:
        priorities: Tally[int] = Tally()
        oldest = now
        for item in self._service.state.items.values():
            if item.status is WorkStatus.PENDING:
                priorities[item.priority] += 1
                oldest = min(oldest, item.created)
        depth = GaugeMetricFamily(
            "compute_work_pending_by_priority", "Waiting items by priority", labels=["priority"]
        )
        for priority in range(10):
            depth.add_metric([str(priority)], priorities[priority])
        yield depth
        yield _gauge("compute_work_oldest_pending_seconds", "Age of the oldest waiting item", now - oldest)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))
