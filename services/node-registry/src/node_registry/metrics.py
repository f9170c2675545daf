"""The registry's own metrics, counted from the table when asked."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.enums import NodeStatus, Tier
from node_registry.rows import Row


class NodesCollector(Collector):
    """Nodes by status and by tier."""

    def __init__(self, rows: Callable[[], Iterable[Row]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        nodes = list(self._rows())
        yield GaugeMetricFamily("compute_nodes_total", "Nodes known, whatever their status", value=len(nodes))
        by_status = Tally(node.status for node in nodes)
        status = GaugeMetricFamily("compute_nodes", "Nodes by status", labels=["status"])
        for name in NodeStatus:
            status.add_metric([name.value], by_status[name])
        yield status
        by_tier = Tally(node.profile.facets.tier for node in nodes if node.is_online)
        online = GaugeMetricFamily("compute_nodes_online", "Online nodes by tier", labels=["tier"])
        for tier in Tier:
            online.add_metric([tier.value], by_tier[tier])
        yield online
        vram = GaugeMetricFamily("compute_nodes_gpu_memory_bytes", "GPU memory of online nodes")
        vram.add_metric([], sum(node.profile.facets.vram_mb for node in nodes if node.is_online) * 2**20)
        yield vram


def events_counter(registry: CollectorRegistry) -> Counter:
    """How often nodes came, changed and went."""
    return Counter("compute_node_events", "Node events by kind", ["event"], registry=registry)
