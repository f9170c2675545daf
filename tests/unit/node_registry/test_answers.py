"""Answers are put together from encoded parts: they must be what the contract's record says."""

import json

from compute_common.schemas.node import Measured, Node, NodeEvent, NodesAnswer
from node_registry.answers import event_json, node_json, nodes_json, single_json
from node_registry.ranking import Ranking
from node_registry.rows import Row
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import START, at, beat, document

GPU = {"name": "NVIDIA H100 80GB HBM3", "vram_mb": 81559, "note": 'a "quoted" word, and {braces}'}


def row_of(table: NodeTable, node_id: str = "n1") -> Row:
    row = table.row(node_id)
    assert row is not None
    return row


def full() -> NodeTable:
    table = NodeTable()
    table.announce(
        document(gpus=[GPU, GPU], cgp_public_key="ключ", cpu={"cores": 4}, labels={"a": "b"}), at(0)
    )
    table.heartbeat(beat(cpu_utilization=0.5, available_vram_mb=7, memory_level="warn"), at(1.5))
    measured = Measured(model="m", batch_size=1, output_tokens_per_s=2.5, measured_at=START)
    table.measure("n1", [measured])
    return table


def test_every_field_of_the_contract_is_there_once() -> None:
    names = [name for name, _value in json.loads(node_json(row_of(full())), object_pairs_hook=list)]
    assert len(names) == len(set(names))
    assert set(Node.model_fields) <= set(names)
    assert "cgp_public_key" in names


def test_the_bytes_are_what_the_record_would_be() -> None:
    body = json.loads(node_json(row_of(full())))
    assert Node.model_validate(body).model_dump(mode="json") == body
    assert body["last_heartbeat"] == "2026-11-23T12:00:01.500000Z"
    assert (body["available_vram_mb"], body["gpus"][0]["note"]) == (7, GPU["note"])


def test_a_single_node_has_its_flat_form() -> None:
    flat = json.loads(single_json(row_of(full())))["capabilities"]
    assert (flat["gpu_count"], flat["cpu_cores"], flat["cgp_public_key"]) == (2, 4, "ключ")
    assert (flat["available_vram_mb"], flat["is_online"], flat["tier"]) == (7, True, "AI_FACTORY")


def test_lists_and_events() -> None:
    row = row_of(full())
    answer = NodesAnswer.model_validate_json(nodes_json([node_json(row)] * 2, "n1", START, {"query_id": "q"}))
    assert (answer.count, len(answer.nodes), answer.next_cursor, answer.query_id) == (2, 2, "n1", "q")
    assert NodesAnswer.model_validate_json(nodes_json([], None, START, {})).nodes == []
    event = NodeEvent.model_validate_json(event_json("removed", "n1", None, START))
    assert (event.event, event.node) == ("removed", None)


def test_ranking_keeps_its_order() -> None:
    ranking = Ranking()
    ranks = [(0, False, -float(free), 0.0, 0.0, f"n{free}") for free in (3, 1, 2)]
    for rank in ranks:
        ranking.replace(None, rank)
    ranking.replace(ranks[0], (3, False, 0.0, 0.0, 0.0, "n3"))
    ranking.replace(ranks[1], None)
    assert list(ranking) == ["n2", "n3"]
