"""A record survives being stored."""

import pytest
from pydantic import ValidationError

from node_registry.records import NodeRecord
from node_registry.stored import from_stored, to_stored
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document


def record_of(table: NodeTable) -> NodeRecord:
    found = table.record("n1")
    assert found is not None
    return found


def test_round_trip() -> None:
    table = NodeTable()
    gpu = {"name": "NVIDIA H200", "vram_mb": 143771, "pcie": "x16"}
    table.announce(document(tier="gpu_peer", gpus=[gpu], note={"a": [1]}, boot_id="b"), at(0))
    for second in (1, 16, 31):
        table.heartbeat(beat(cpu_utilization=0.5), at(second))
    before = table.node("n1")
    other = NodeTable()
    other.restore([from_stored(to_stored(record_of(table), at(32)), at(40))], ["n1"])
    after = other.node("n1")
    assert before is not None
    assert after is not None
    assert after.model_dump() == before.model_dump() | {"is_draining": True, "status": "draining"}
    assert other.offline_after_seconds("n1") == 61
    assert other.tick(at(100).mono) == [], "a node that beats gets a fresh deadline"
    assert [change.event for change in other.tick(at(102).mono)] == ["offline"]


def test_a_node_that_never_beat_goes_on_with_the_time_it_has_left() -> None:
    table = NodeTable(register_ttl_seconds=600)
    table.announce(document(), at(0))
    other = NodeTable(register_ttl_seconds=600)
    other.restore([from_stored(to_stored(record_of(table), at(100)), at(500))], [])
    assert other.tick(at(599).mono) == []
    assert [change.event for change in other.tick(at(601).mono)] == ["offline"]


def test_live_truth_is_not_overruled() -> None:
    table = NodeTable()
    table.announce(document(slots=1), at(0))
    stored = from_stored(to_stored(record_of(table), at(0)), at(0))
    table.announce(document(slots=2), at(1))
    assert table.restore([stored], []) == []
    node = table.node("n1")
    assert node is not None
    assert node.slots == 2


def test_garbage_is_refused() -> None:
    with pytest.raises(ValidationError):
        from_stored(b'{"document": {"node_id": "../x"}}', at(0))
