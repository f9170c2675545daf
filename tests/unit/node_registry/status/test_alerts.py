"""Memory that runs out: said by orchestrators, by heartbeats, and taken back."""

from typing import Any

from compute_common.schemas.gpu import MemoryWarning
from node_registry.status.alerts import MOST_KEPT, MemoryAlerts
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import START, at, beat, document


def warning(
    node_id: str = "n1", gpu: int | None = 0, level: str = "critical", **fields: Any
) -> MemoryWarning:
    body = {"node_id": node_id, "gpu_index": gpu, "level": level, "previous_level": "ok", "available_mb": 512}
    return MemoryWarning.model_validate({**body, "timestamp": START, **fields})


def table_of(*nodes: str, **said: Any) -> NodeTable:
    table = NodeTable()
    for node_id in nodes:
        table.announce(document(node_id), at(0))
        table.heartbeat(beat(node_id, **said), at(1))
    return table


def test_the_worst_first_and_taken_back_by_its_own_device_only() -> None:
    table, alerts = table_of("n1", "n2"), MemoryAlerts()
    alerts.hear(warning("n1", 0, "warn", predicted_oom_seconds=200), 1001, START)
    alerts.hear(warning("n2", None, "critical"), 1001, START)
    alerts.hear(warning("n1", 1, "warn", predicted_oom_seconds=90), 1001, START)
    found = alerts.now(table.rows(), 1002)
    assert [(each.node_id, each.gpu_index) for each in found] == [("n2", None), ("n1", 1), ("n1", 0)]
    alerts.hear(warning("n1", 1, "watch"), 1003, START)
    assert [each.gpu_index for each in alerts.now(table.rows(), 1003)] == [None, 0]


def test_a_missed_all_clear_is_made_good_by_heartbeats() -> None:
    table, alerts = table_of("n1", memory_level="ok"), MemoryAlerts()
    alerts.hear(warning(), 1001, START)
    assert len(alerts.now(table.rows(), 1010)) == 1, "the beat may be older than the warning"
    assert alerts.now(table.rows(), 1022) == []
    assert alerts.now(table.rows(), 1002) == [], "and it does not come back"


def test_a_level_in_a_heartbeat_warns_where_no_message_came() -> None:
    found = MemoryAlerts().now(table_of("n1", memory_level="warn").rows(), 1001)
    assert [(each.node_id, each.level, each.available_mb) for each in found] == [("n1", "warn", None)]


def test_nodes_that_are_gone_or_unknown_warn_nobody() -> None:
    table, alerts = table_of("n1"), MemoryAlerts()
    alerts.hear(warning("n1"), 1001, START)
    alerts.hear(warning("stranger"), 1001, START)
    table.tick(1000 + 10_000)
    assert alerts.now(table.rows(), 1002) == []


def test_bounded() -> None:
    alerts = MemoryAlerts()
    for number in range(MOST_KEPT + 5):
        alerts.hear(warning(f"n{number // 4096}", number % 4096), 1001, START)
    assert len(alerts.now(table_of("n0", "n1").rows(), 1001)) == 100
