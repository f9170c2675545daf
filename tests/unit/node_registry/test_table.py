"""What messages make of the table."""

import pytest

from compute_common.enums import InstanceStatus, NodeStatus
from compute_common.problems import Problem
from compute_common.schemas.node import Measured, Node
from node_registry.records import InstanceFacts
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import START, at, beat, document


def node(table: NodeTable, node_id: str = "n1") -> Node:
    found = table.node(node_id)
    assert found is not None
    return found


def ready(name: str, confirmed: float = 0, status: InstanceStatus = InstanceStatus.READY) -> InstanceFacts:
    names = (name, "org/Model", "Model")
    return InstanceFacts(name, "org/Model", status, names, "http://127.0.0.1:18000/v1", at(confirmed).mono)


def kinds(changes: object) -> list[str]:
    assert isinstance(changes, list)
    return [change.event for change in changes]


def test_two_partial_documents_make_one_node() -> None:
    table = NodeTable()
    assert kinds(table.announce(document(cpu={"cores": 8}, managed=True, boot_id="b"), at(0))) == ["joined"]
    assert kinds(table.announce(document(work_types=["inference"], slots=2, fenced=True), at(1))) == [
        "updated"
    ]
    merged = node(table)
    assert (merged.cpu_cores, merged.work_types, merged.slots) == (8, ["inference"], 2)
    assert (merged.managed, merged.fenced, merged.boot_id) == (True, True, "b")
    table.announce(document(work_types=[]), at(2))
    assert node(table).work_types == []
    assert node(table).cpu_cores == 8


def test_the_same_again_is_no_event() -> None:
    table = NodeTable()
    first = document(memory={"total_mb": 1000, "available_mb": 500}, timestamp="2026-01-01T00:00:00Z")
    again = document(memory={"total_mb": 1000, "available_mb": 400}, timestamp="2026-01-01T00:00:09Z")
    table.announce(first, at(0))
    assert kinds(table.announce(again, at(1))) == []
    assert node(table).available_memory_mb == 400


def test_unknown_fields_come_back_and_never_pose_as_ours() -> None:
    table = NodeTable()
    table.announce(
        document(cgp_public_key="k", geometric_position=[1, 2], warnings="mine", available_memory_mb="much"),
        at(0),
    )
    body = node(table).model_dump(mode="json")
    assert body["cgp_public_key"] == "k"
    assert body["geometric_position"] == [1, 2]
    assert body["warnings"] == ["ignored because not usable: available_memory_mb"]
    assert body["available_memory_mb"] is None


def test_a_heartbeat_of_a_stranger() -> None:
    assert NodeTable().heartbeat(beat(), at(0)) is None


def test_heartbeat_state_and_status() -> None:
    table = NodeTable()
    table.announce(document(available_cpu_slots=3), at(0))
    table.heartbeat(beat(cpu_utilization=0.2, gpu_utilization=[0.1, 0.9], active_jobs=2), at(1))
    seen = node(table)
    assert (seen.utilization_score, seen.active_jobs, seen.available_cpu_slots) == (0.9, 2, 3)
    assert seen.last_heartbeat == at(1).wall
    assert kinds(table.heartbeat(beat(status="busy"), at(2))) == ["updated"]
    assert node(table).status is NodeStatus.BUSY
    assert node(table).cpu_utilization == 0.2, "what a heartbeat does not say stays"
    assert kinds(table.heartbeat(beat(memory_level="warn"), at(3))) == ["updated"]
    assert kinds(table.heartbeat(beat(status="offline"), at(4))) == ["offline"]
    assert not node(table).is_online


def test_a_drain_survives_everything() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    assert kinds(table.drain("n1", drain=True)) == ["draining"]
    assert kinds(table.drain("n1", drain=True)) == []
    table.heartbeat(beat(status="online"), at(1))
    table.announce(document(slots=4), at(2))
    assert node(table).status is NodeStatus.DRAINING
    table.remove("n1")
    table.announce(document(), at(3))
    assert node(table).is_draining
    assert kinds(table.drain("n1", drain=False)) == ["updated"]
    assert node(table).status is NodeStatus.ONLINE


def test_a_drain_before_the_node_is_known() -> None:
    table = NodeTable()
    assert table.drain("later", drain=True) == []
    table.announce(document("later"), at(0))
    assert node(table, "later").is_draining


def test_ready_instances_are_supported_models() -> None:
    table = NodeTable()
    table.announce(document(managed=True, supported_models=["own"]), at(0))
    assert kinds(table.instance("n1", ready("m-1"), removed=False)) == ["updated"]
    assert node(table).supported_models == ["own", "m-1", "org/Model", "Model"]
    assert node(table).endpoints == {"m-1": "http://127.0.0.1:18000/v1"}
    assert kinds(table.instance("n1", ready("m-1", confirmed=15), removed=False)) == [], "a mere repeat"
    table.instance("n1", ready("m-1", status=InstanceStatus.DEGRADED), removed=False)
    assert node(table).supported_models == ["own"]
    table.instance("n1", ready("m-1"), removed=False)
    assert kinds(table.instance("n1", ready("m-1"), removed=True)) == ["updated"]
    assert node(table).supported_models == ["own"]


def test_an_instance_nobody_confirms_is_taken_out() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    table.instance("n1", ready("m-1", confirmed=0), removed=False)
    table.tick(at(60).mono)
    assert "m-1" in (node(table).supported_models or [])
    assert kinds(table.tick(at(62).mono)) == ["updated"]
    assert node(table).supported_models is None


def test_an_instance_before_its_node() -> None:
    table = NodeTable()
    assert table.instance("n1", ready("m-1"), removed=False) == []
    table.announce(document(), at(0))
    assert "m-1" in (node(table).supported_models or [])


def test_measured_speed_replaces_the_older_figure() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    for speed in (10.0, 20.0):
        new = Measured(model="m", engine="vllm", batch_size=1, output_tokens_per_s=speed, measured_at=START)
        table.measure("n1", [new])
    assert [item.output_tokens_per_s for item in node(table).measured] == [20.0]


def test_a_cloned_node_id_is_reported_and_a_reboot_is_not() -> None:
    table = NodeTable()
    table.announce(document(boot_id="a"), at(0))
    table.heartbeat(beat(boot_id="b"), at(1))
    assert node(table).warnings == []
    assert kinds(table.heartbeat(beat(boot_id="a"), at(2))) == ["updated"]
    assert "two hosts" in node(table).warnings[0]


def test_a_twin_that_is_gone_for_four_deadlines_is_forgotten_until_it_is_back() -> None:
    table = NodeTable()
    table.announce(document(boot_id="a", heartbeat_seconds=5), at(0))  # offline after 21 s
    for second, boot_id in ((1, "b"), (2, "a"), (3, "b"), (4, "a")):
        table.heartbeat(beat(boot_id=boot_id), at(second))
    for second in range(9, 89, 5):
        assert kinds(table.heartbeat(beat(boot_id="a"), at(second))) == []
    assert "two hosts" in node(table).warnings[0]
    assert kinds(table.heartbeat(beat(boot_id="a"), at(89))) == ["updated"]
    assert node(table).warnings == []
    assert kinds(table.heartbeat(beat(boot_id="b"), at(90))) == ["updated"]
    assert "two hosts" in node(table).warnings[0]


def test_a_document_may_not_grow_without_bound() -> None:
    table = NodeTable(max_document_bytes=2000)
    table.announce(document(a="x" * 1000), at(0))
    with pytest.raises(Problem) as refused:
        table.announce(document(b="x" * 1000), at(1))
    assert refused.value.status == 413
    assert "b" not in node(table).model_dump()


def test_a_full_table_forgets_the_longest_silent() -> None:
    table = NodeTable(max_nodes=2)
    table.announce(document("a", heartbeat_seconds=1), at(0))
    table.announce(document("b"), at(0))
    with pytest.raises(Problem) as refused:
        table.announce(document("c"), at(1))
    assert refused.value.cause == "registry-full"
    table.tick(at(10).mono)
    assert kinds(table.announce(document("c"), at(10))) == ["removed", "joined"]
    assert sorted(found.node_id for found in table.rows()) == ["b", "c"]


def test_remove() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    assert kinds(table.remove("n1")) == ["removed"]
    assert table.remove("n1") == []
    assert table.node("n1") is None
    assert len(table) == 0
