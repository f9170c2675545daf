"""The registry's own metrics, counted from the table when asked."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.enums import NodeStatus, Tier
from node_registry.rows import Row

MOST_NODES = 500  # of which there are series each; the sums are over all
_MIB = 1 << 20


class NodesCollector(Collector):
    """Nodes by status and by tier; liveness and use of each. `now`: the table's monotonic clock."""

    def __init__(self, rows: Callable[[], Iterable[Row]], now: Callable[[], float]) -> None:
        self._rows = rows
        self._now = now

    def collect(self) -> Iterator[Metric]:
        nodes = list(self._rows())
        online = [node for node in nodes if node.is_online]
        yield GaugeMetricFamily("compute_nodes_total", "Nodes known, whatever their status", value=len(nodes))
        by_status = Tally(node.status for node in nodes)
        status = GaugeMetricFamily("compute_nodes", "Nodes by status", labels=["status"])
        for name in NodeStatus:
            status.add_metric([name.value], by_status[name])
        yield status
        by_tier = Tally(node.profile.facets.tier for node in online)
        tiers = GaugeMetricFamily("compute_nodes_online", "Online nodes by tier", labels=["tier"])
        for tier in Tier:
            tiers.add_metric([tier.value], by_tier[tier])
        yield tiers
        now = self._now()
        yield GaugeMetricFamily(
            "compute_nodes_stale",
            "Online nodes that are silent for half of what they may be",
            value=sum(now > (node.record.life.last_seen + node.deadline) / 2 for node in online),
        )
        yield from _gpu_memory(online)
        yield from _of_each(nodes)


def _gpu_memory(online: Sequence[Row]) -> Iterator[Metric]:
    total = sum(node.profile.facets.vram_mb for node in online)
    yield GaugeMetricFamily(
        "compute_nodes_gpu_memory_bytes", "GPU memory of online nodes", value=total * _MIB
    )
    free = sum(
        node.profile.facets.vram_mb if node.available_vram_mb is None else node.available_vram_mb
        for node in online
    )
    yield GaugeMetricFamily(
        "compute_nodes_gpu_memory_available_bytes",
        "GPU memory of online nodes that is free, as far as they tell",
        value=free * _MIB,
    )


def _of_each(nodes: Sequence[Row]) -> Iterator[Metric]:
    """Those offline come first: a loss is never left out."""
    shown = sorted(nodes, key=attrgetter("is_online", "node_id"))[:MOST_NODES]
    label = ["node_id"]
    up = GaugeMetricFamily("compute_node_online", "1 while a node is online", labels=label)
    cpu = GaugeMetricFamily("compute_utilization_cpu", "CPU use of an online node, 0 to 1", labels=label)
    memory = GaugeMetricFamily(
        "compute_utilization_memory", "RAM use of an online node, 0 to 1", labels=label
    )
    gpu = GaugeMetricFamily(
        "compute_utilization_gpu", "GPU use of an online node, mean of its GPUs, 0 to 1", labels=label
    )
    for node in shown:
        name, beat = [node.node_id], node.record.beat
        up.add_metric(name, node.is_online)
        if beat is None or not node.is_online:
            continue
        for family, value in ((cpu, beat.cpu_utilization), (memory, beat.memory_utilization)):
            if value is not None:
                family.add_metric(name, value)
        if beat.gpu_utilization:
            gpu.add_metric(name, sum(beat.gpu_utilization) / len(beat.gpu_utilization))
    yield from (up, cpu, memory, gpu)


def events_counter(registry: CollectorRegistry) -> Counter:
    """How often nodes came, changed and went."""
    return Counter("compute_node_events", "Node events by kind", ["event"], registry=registry)
