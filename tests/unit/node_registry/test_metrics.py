"""The registry's metrics of a table: sums over all nodes, series of some, losses first."""

from typing import Any

from node_registry.metrics import MOST_NODES, NodesCollector
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document

GPU: dict[str, Any] = {"index": 0, "uuid": "GPU-1", "name": "NVIDIA GeForce RTX 3090", "vram_mb": 24576}


def samples(table: NodeTable, now: float) -> dict[tuple[str, ...], float]:
    """(metric, label values…) → value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in NodesCollector(table.rows, lambda: now).collect()
        for sample in family.samples
    }


def table_of(count: int) -> NodeTable:
    table = NodeTable(600, 20_000, 1 << 18)
    for number in range(count):
        table.announce(document(f"n{number:04}", heartbeat_seconds=5), at(0))
    return table


def test_a_beat_is_seen_as_ratios_and_its_gpus_as_their_mean() -> None:
    table = NodeTable(600, 20_000, 1 << 18)
    table.announce(document("a", gpus=[GPU], platform="cuda", heartbeat_seconds=5), at(0))
    table.heartbeat(
        beat(
            "a",
            cpu_utilization=0.25,
            memory_utilization=0.5,
            gpu_utilization=[0.2, 0.6],
            available_vram_mb=1024,
        ),
        at(1),
    )
    seen = samples(table, at(2).mono)
    assert seen["compute_utilization_cpu", "a"] == 0.25
    assert seen["compute_utilization_memory", "a"] == 0.5
    assert seen["compute_utilization_gpu", "a"] == 0.4
    assert seen["compute_nodes_gpu_memory_bytes",] == 24576 * 2**20
    assert seen["compute_nodes_gpu_memory_available_bytes",] == 1024 * 2**20


def test_half_of_the_allowed_silence_is_stale_and_all_of_it_is_lost() -> None:
    table = table_of(1)
    table.heartbeat(beat("n0000", cpu_utilization=0.1), at(0))
    assert samples(table, at(10).mono)["compute_nodes_stale",] == 0
    assert samples(table, at(11).mono)["compute_nodes_stale",] == 1
    table.tick(at(30).mono)
    seen = samples(table, at(30).mono)
    assert seen["compute_nodes_stale",] == 0
    assert seen["compute_node_online", "n0000"] == 0
    assert seen["compute_nodes", "offline"] == 1
    assert ("compute_utilization_cpu", "n0000") not in seen


def test_of_many_nodes_there_are_sums_and_some_series_those_lost_among_them() -> None:
    table = table_of(MOST_NODES + 20)
    for number in range(MOST_NODES + 19):
        table.heartbeat(beat(f"n{number:04}", cpu_utilization=0.1), at(20))
    table.tick(at(30).mono)
    seen = samples(table, at(30).mono)
    online = {labels[1]: value for labels, value in seen.items() if labels[0] == "compute_node_online"}
    assert len(online) == MOST_NODES
    assert [name for name, value in online.items() if not value] == [f"n{MOST_NODES + 19:04}"]
    assert seen["compute_nodes_total",] == MOST_NODES + 20
