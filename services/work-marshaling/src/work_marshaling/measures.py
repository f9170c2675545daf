"""What Prometheus sees of the queue: counts from the fold when asked, times as they happen.

Thousands of records a second are counted here: plain numbers, put into Prometheus' words at a scrape.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.enums import WorkStatus
from compute_common.jetstream import RESULTS_BUCKET, SNAPSHOTS_BUCKET, WORK_STREAM
from compute_common.shell.nats_metrics import Follower, StreamWatch
from compute_common.subjects import untoken
from work_marshaling.events import NODE_FAMILY, Record
from work_marshaling.outcome import Outcome
from work_marshaling.waiting import PRIORITIES

if TYPE_CHECKING:
    from work_marshaling.service import WorkMarshaling

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
ENDS = frozenset({"completed", "failed", "cancelled"})
MOST_NODES = 1000  # labels


class Spans:
    """A histogram of seconds."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def metric(self) -> Metric:
        edges = (*(str(float(edge)) for edge in _BUCKETS), "+Inf")
        buckets = list(zip(edges, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._sum)


class Measures(Collector):
    def __init__(self, service: WorkMarshaling) -> None:
        self._service = service
        self._events: Counter[str] = Counter()
        self._wait = Spans("compute_work_wait_seconds", "From submission (or retry) to assignment")
        self._run = Spans("compute_work_run_seconds", "From assignment to completion")
        self._ended: Counter[tuple[str, ...]] = Counter()
        self._reports: Counter[str] = Counter()
        self._nodes: set[str] = set()
        self._streams = StreamWatch(
            service.name,
            service.bus,
            (WORK_STREAM, f"OBJ_{SNAPSHOTS_BUCKET}", f"OBJ_{RESULTS_BUCKET}"),
            {WORK_STREAM: Follower("work-log", lambda: service.log.position)},
            account=True,
        )
        service.metrics.registry.register(self._streams)
        self._started = time.time()
        service.metrics.registry.register(self)

    def start(self) -> None:
        self._streams.start()

    async def stop(self) -> None:
        await self._streams.stop()

    def observe(self, outcome: Outcome, record: Record) -> None:
        """Count one record; times only of what happens now, not of what is replayed."""
        self._events[outcome.event] += 1
        if record.subject.startswith(NODE_FAMILY) and not record.subject.endswith(".assigned"):
            self._reports[self._node(untoken(record.subject.split(".")[2]))] += 1
        item = outcome.item
        if item is None or record.time < self._started:
            return
        if outcome.event == "assigned":
            self._wait.observe(item.wait_seconds)
        elif outcome.event == "completed":
            self._run.observe(max(0.0, record.time - item.assigned_at))
        if outcome.event in ENDS:
            self._ended[item.status.value, self._node(item.last_node)] += 1

    def _node(self, node_id: str | None) -> str:
        """The label of a node; empty for an item that no node ever had."""
        if node_id and node_id not in self._nodes:
            if len(self._nodes) >= MOST_NODES:
                return "other"
            self._nodes.add(node_id)
        return node_id or ""

    def collect(self) -> Iterator[Metric]:
        """The same work however many items there are."""
        state = self._service.state
        yield _counter("compute_work_events", "Records of the work log by effect", ["event"], self._events)
        yield _counter(
            "compute_work_ended",
            "Items that ended since the start, by status and the node that had them last",
            ["status", "node_id"],
            self._ended,
        )
        yield self._wait.metric()
        yield self._run.metric()
        yield from self._of_items(time.time())
        yield _counter(
            "compute_work_ignored",
            "Records of the log that changed nothing, by reason",
            ["reason"],
            state.ignored,
        )
        yield _counter(
            "compute_work_reports",
            "Records in the name of a node with a NATS account of its own",
            ["node_id"],
            self._reports,
        )
        yield CounterMetricFamily("compute_work_retries", "Retries", value=state.totals.retried)
        yield CounterMetricFamily("compute_work_timeouts", "Expired leases", value=state.totals.timed_out)
        yield _gauge("compute_work_log_position", "Last record applied", self._service.log.position)
        yield _gauge("compute_work_leading", "1 while this one assigns", self._service.dispatcher.leading)

    def _of_items(self, now: float) -> Iterator[Metric]:
        state = self._service.state
        counts, waiting = state.counts, state.waiting
        yield _gauge("compute_work_pending", "Items that wait for a node", waiting.count)
        yield _gauge("compute_work_active", "Items that a node holds", counts[WorkStatus.ASSIGNED])
        statuses = {status.value: counts[status] for status in WorkStatus}
        yield _gauges("compute_work_items", "Items kept, by status", "status", statuses)
        depth = {str(priority): waiting.by_priority[priority] for priority in range(PRIORITIES)}
        yield _gauges("compute_work_pending_by_priority", "Waiting items by priority", "priority", depth)
        oldest = waiting.oldest()
        age = now - oldest.created if oldest else 0.0
        yield _gauge("compute_work_oldest_pending_seconds", "Age of the oldest waiting item", age)
        yield _gauge(
            "compute_work_set_aside", "Ended items that failed on several nodes", len(state.set_aside)
        )
        yield _gauge(
            "compute_work_blacklisted_nodes",
            "Nodes set aside after failures",
            len({entry[0] for entry in state.blacklist.cooling(now)}),
        )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _gauges(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _counter(
    name: str, text: str, labels: list[str], values: Counter[str] | Counter[tuple[str, ...]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for words, value in values.items():
        family.add_metric([words] if isinstance(words, str) else words, value)
    return family
