"""docs/metrics.md: names that say their unit, and the names that the platform was promised."""

from collections import Counter

from tests.support.metrics import SERVICES, documented

PROMISED = {
    "compute_nodes_total", "compute_nodes_online", "compute_work_pending", "compute_work_active",
    "compute_utilization_cpu", "compute_utilization_gpu", "compute_utilization_memory",
}  # fmt: skip
SUFFIXES = {"seconds": "_seconds", "bytes": "_bytes", "ratio": "_ratio", "watts": "_watts", "°C": "_celsius"}
UNBOUNDED = {"work_id", "reservation_id", "benchmark_id", "model_name", "path", "pid"}


def test_every_metric_is_there_once_and_told_by_services_that_exist() -> None:
    named = Counter(metric.name for metric in documented())
    assert named.most_common(1)[0][1] == 1
    assert all(set(metric.services) <= set(SERVICES) for metric in documented())
    assert set(named) >= PROMISED


def test_names_end_in_their_base_unit_and_counters_in_total() -> None:
    for metric in documented():
        bare = metric.name.removesuffix("_total")
        if metric.name in PROMISED:
            continue
        assert (metric.name != bare) == (metric.kind == "counter"), metric.name
        for unit, suffix in SUFFIXES.items():
            assert (metric.unit == unit) == bare.endswith(suffix), metric.name


def test_labels_are_bounded() -> None:
    assert not [metric.name for metric in documented() if metric.labels & UNBOUNDED]
