"""What Prometheus sees of this node's instances."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from compute_common.enums import InstanceStatus
from vllm_orchestrator.instances.table import InstanceTable


class InstanceCounts(Collector):
    """As many series as instances are deployed on this node."""

    def __init__(self, table: InstanceTable) -> None:
        self._table = table

    def collect(self) -> Iterator[Metric]:
        own = self._table.own()
        family = GaugeMetricFamily("compute_instances", "Instances of this node by status", labels=["status"])
        for status in InstanceStatus:
            family.add_metric([status.value], sum(record.status is status for record in own))
        yield family
        label = ["instance_name"]
        ready = GaugeMetricFamily("compute_instance_ready", "1 while an instance is ready", labels=label)
        restarts = CounterMetricFamily(
            "compute_instance_restarts", "Times an instance's engine was started again", labels=label
        )
        for record in own:
            ready.add_metric([record.instance_name], record.status is InstanceStatus.READY)
            restarts.add_metric([record.instance_name], record.restarts)
        yield ready
        yield restarts
