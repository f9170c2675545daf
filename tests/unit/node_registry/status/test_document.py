"""The overview put together, and what is told of its changes."""

import json
from datetime import timedelta
from typing import Any

import pytest

from compute_common.enums import InstanceStatus
from node_registry.records import InstanceFacts
from node_registry.status import hosts
from node_registry.status.document import Around, Document, Lines, all_instances, document
from node_registry.status.heard import (
    MOST_AT_ONCE,
    Heard,
    InstancesAnswer,
    StatesAnswer,
    shown_gpus,
    shown_instances,
    to_ask,
)
from node_registry.status.models import MOST_GPUS_OF_A_NODE, Overview, OverviewChanges, Voice
from node_registry.table import NodeTable
from tests.unit.node_registry import builders
from tests.unit.node_registry.builders import START, at, beat

RTX = {"index": 0, "name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564}


def around(**fields: Any) -> Around:
    nothing: dict[str, Any] = {
        "heard": {}, "nats": True, "nats_detail": "connected", "queue": None, "work": Voice.ABSENT,
        "rate": None, "alerts": [],
    }  # fmt: skip
    return Around(**{**nothing, **fields})


def made(
    table: NodeTable, found: Around | None = None, lines: Lines | None = None, after: float = 0
) -> Document:
    now = START + timedelta(seconds=after)
    return document(list(table.rows()), table.instances(), found or around(), lines or Lines(), now)


def read(whole: Document) -> Overview:
    return Overview.model_validate_json(whole.whole())


def table_of(count: int, **fields: Any) -> NodeTable:
    table = NodeTable()
    for number in range(count):
        table.announce(builders.document(f"n{number:04}", **fields), at(0))
    return table


def test_nothing_is_a_document_too() -> None:
    found = read(made(NodeTable()))
    assert (found.hosts, found.instances, found.nodes.total_nodes) == ([], [], 0)
    assert [(each.name, each.voice) for each in found.neighbours] == [
        ("nats", "answers"),
        ("work-marshaling", "absent"),
        ("gpu-orchestrator", "unasked"),
        ("vllm-orchestrator", "unasked"),
    ]


def test_a_ledger_that_answers_tells_of_cards_else_the_node_does() -> None:
    table = table_of(1, gpus=[{**RTX, "vram_used_mb": 100}], managed=True)
    said = read(made(table)).hosts[0]
    assert (said.gpus[0].used_mb, said.gpus[0].total_mb, said.ledger) == (100, 24564, "unasked")
    states = StatesAnswer.model_validate(
        {"gpus": [{"index": 0, "name": "RTX", "total_mb": 24564, "used_mb": 9000, "reserved_mb": 8000}]}
    )
    gpus, count = shown_gpus(states)
    heard = {"n0000": Heard(0, Voice.ANSWERS, Voice.SILENT, gpus, count)}
    told = read(made(table, around(heard=heard)))
    assert (told.hosts[0].gpus[0].used_mb, told.hosts[0].gpus[0].reserved_mb) == (9000, 8000)
    ledgers, engines = told.neighbours[2:]
    assert (ledgers.voice, ledgers.answered, ledgers.silent) == ("answers", 1, [])
    assert (engines.voice, engines.answered, engines.silent) == ("silent", 0, ["n0000"])


def test_a_cut_card_is_its_slices_and_an_endless_list_is_cut_off() -> None:
    slices = [{"name": "1g.10gb", "vram_mb": 9856}, {"name": "2g.20gb", "vram_mb": 19968}]
    table = table_of(1, gpus=[{**RTX, "index": 1, "schedulable": False, "slices": slices}])
    line = read(made(table)).hosts[0]
    assert [(gpu.index, gpu.name) for gpu in line.gpus] == [(200, "1g.10gb"), (201, "2g.20gb")]
    many = read(made(table_of(1, gpus=[{**RTX, "index": index} for index in range(200)]))).hosts[0]
    assert (len(many.gpus), many.gpu_count) == (MOST_GPUS_OF_A_NODE, 200)
    cut = StatesAnswer.model_validate({"gpus": [{"index": 0, "schedulable": False}, {"index": 100}]})
    assert shown_gpus(cut)[1] == 1


def test_an_offline_node_claims_nothing_about_now() -> None:
    table = table_of(1, memory={"total_mb": 1000, "available_mb": 600})
    table.heartbeat(beat("n0000", cpu_utilization=0.5, active_jobs=2), at(1))
    table.tick(1000 + 10_000)
    line = read(made(table)).hosts[0]
    assert (line.status, line.cpu_utilization, line.memory_available_mb, line.active_jobs) == (
        "offline", None, None, 0,
    )  # fmt: skip
    assert line.silent_since is not None


def test_by_tier_then_id_and_troubled_ones_stay_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_of(12)
    table.announce(builders.document("a-card", gpus=[RTX]), at(0))
    assert [each.node_id for each in read(made(table)).hosts][:2] == ["a-card", "n0000"]
    table.drain("n0011", drain=True)
    monkeypatch.setattr(hosts, "MOST_NODES", 3)
    cut = read(made(table))
    assert ([each.node_id for each in cut.hosts], cut.nodes_left_out) == (["a-card", "n0000", "n0011"], 10)
    assert cut.nodes.total_nodes == 13


def test_changes_hold_what_changed_and_no_more() -> None:
    table, lines = table_of(3), Lines()
    first = made(table, lines=lines)
    assert made(table, lines=lines, after=5).since(first) is None, "time alone is no change"
    table.heartbeat(beat("n0001", cpu_utilization=0.25), at(1))
    second = made(table, lines=lines)
    changed = OverviewChanges.model_validate_json(second.since(first) or b"")
    assert ([each.node_id for each in changed.hosts], changed.gone) == (["n0001"], [])
    table.remove("n0002", at(2))
    third = made(table, lines=lines)
    assert json.loads(third.since(second) or b"")["gone"] == ["n0002"]
    table.heartbeat(beat("n0001", cpu_utilization=0.2501), at(3))
    assert made(table, lines=lines).since(third) is None, "less than a percent is not drawn again"
    queue = around(queue={"pending": 1}, work=Voice.ANSWERS)
    assert made(table, queue, lines).since(third) is not None


def test_an_orchestrator_adds_what_events_do_not_say() -> None:
    answer = {
        "instances": [
            {"instance_name": "a", "model_name": "m", "status": "failed", "last_error": "no memory" * 100},
            {"instance_name": "b", "status": "starting", "progress": {"phase": "loading", "percent": 40.2}},
            {"instance_name": "c", "model_name": "m", "status": "starting"},
        ]
    }
    shown = shown_instances("n1", InstancesAnswer.model_validate(answer))
    told = InstanceFacts("c", "m", InstanceStatus.READY, (), None, 0.0)
    found = all_instances([("n1", told)], {"n1": Heard(0, instances=shown)})
    assert [(each.instance_name, each.status) for each in found] == [
        ("a", "failed"), ("b", "starting"), ("c", "ready"),
    ]  # fmt: skip
    assert (len(found[0].detail or ""), found[1].detail) == (400, "loading, 40 %")


def test_only_hosts_of_this_suite_are_asked_the_longest_waiting_first() -> None:
    table = table_of(MOST_AT_ONCE + 2, managed=True)
    table.announce(builders.document("plain"), at(0))
    assert len(to_ask(table.rows(), {}, 1000)) == MOST_AT_ONCE
    heard = {row.node_id: Heard(1000, Voice.ANSWERS, Voice.ANSWERS) for row in table.rows()}
    heard["n0003"] = Heard(1000, Voice.ABSENT, Voice.ABSENT)
    heard["n0004"] = Heard(990, Voice.SILENT, Voice.ANSWERS)
    assert to_ask(table.rows(), heard, 1004) == ["n0004"]
    assert "n0003" not in to_ask(table.rows(), heard, 1006)
    assert "n0003" in to_ask([table.rows_by_id["n0003"]], heard, 1031)
