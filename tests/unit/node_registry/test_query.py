"""Filters and their order."""

from typing import Any

import pytest

from compute_common.schemas.node import Measured, NodeQuery
from node_registry.pages import list_page, query_answer
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import START, at, beat, document, found

RTX_4090 = {"name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564, "compute_capability": "8.9"}
H100 = {"name": "NVIDIA H100 80GB HBM3", "vram_mb": 81559, "compute_capability": "9.0"}


@pytest.fixture
def fleet() -> NodeTable:
    table = NodeTable()
    table.announce(
        document("big", gpus=[H100, H100], cpu={"cores": 64}, memory={"total_gb": 512}, platform="cuda"),
        at(0),
    )
    table.announce(
        document("desk", gpus=[RTX_4090], cpu={"cores": 16}, labels={"room": "a"}, platform="CUDA"), at(0)
    )
    table.announce(document("plain", cpu={"cores": 8}, memory={"total_mb": 16000}, gpus=[]), at(0))
    table.announce(
        document("worker", managed=True, work_types=["Inference"], supported_models=["org/Llama-3"]), at(0)
    )
    return table


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["big", "desk", "plain", "worker"]),
        ({"requires_gpu": True}, ["big", "desk"]),
        ({"requires_gpu": True, "min_tier": "gpu_peer", "online_only": True}, ["big", "desk"]),
        ({"tier": "worker_hub"}, ["desk"]),
        ({"min_tier": "AI_FACTORY"}, ["big"]),
        ({"min_vram_gb": 24}, ["big", "desk"]),
        ({"min_vram_gb": 27}, ["big"]),
        ({"min_total_vram_gb": 160}, ["big"]),
        ({"min_gpu_count": 2}, ["big"]),
        ({"min_cpu": 16}, ["big", "desk"]),
        ({"min_ram_mb": 16000}, ["big", "plain"]),
        ({"platform": "cuda"}, ["big", "desk"]),
        ({"labels": {"room": "a"}}, ["desk"]),
        ({"labels": {"room": "b"}}, []),
        ({"model": "llama-3"}, ["worker"]),
        ({"model": "ORG/LLAMA-3"}, ["worker"]),
        ({"work_type": "inference"}, ["big", "desk", "plain", "worker"]),
        ({"work_type": "training"}, ["big", "desk", "plain"]),
        ({"status": "offline"}, []),
    ],
)
def test_filters(fleet: NodeTable, query: dict[str, Any], expected: list[str]) -> None:
    assert found(fleet, **query) == expected


def test_draining_and_offline_only_when_asked_for(fleet: NodeTable) -> None:
    fleet.drain("big", drain=True)
    fleet.heartbeat(beat("desk", status="offline"), at(1))
    assert found(fleet, requires_gpu=True) == []
    assert found(fleet, requires_gpu=True, include_draining=True) == ["big"]
    assert found(fleet, requires_gpu=True, online_only=False) == ["desk"]
    assert found(fleet, status="draining") == ["big"]
    assert found(fleet, status="offline") == ["desk"]


def test_most_free_capacity_first_then_measured_speed(fleet: NodeTable) -> None:
    fleet.heartbeat(beat("big", available_vram_mb=1000), at(1))
    assert found(fleet, requires_gpu=True) == ["desk", "big"]
    for name, speed in (("twin-a", 10.0), ("twin-b", 90.0)):
        fleet.announce(document(name, labels={"twin": "1"}), at(0))
        measured = Measured(model="m", batch_size=1, output_tokens_per_s=speed, measured_at=START)
        fleet.measure(name, [measured])
    assert found(fleet, labels={"twin": "1"}) == ["twin-b", "twin-a"]


def test_a_managed_node_without_work_types_takes_nothing() -> None:
    table = NodeTable()
    table.announce(document("host", managed=True), at(0))
    assert found(table, work_type="inference") == []


def test_the_list_comes_in_pages(fleet: NodeTable) -> None:
    seen: list[str] = []
    cursor: str | None = None
    for _page in range(4):
        page = list_page(fleet, NodeQuery(cursor=cursor), 2, START)
        seen += page.node_ids
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["big", "desk", "plain", "worker"]


def test_an_answer_larger_than_a_message_comes_in_pages() -> None:
    table = NodeTable()
    for number in range(50):
        table.announce(document(f"n{number:03}", note="x" * 200), at(0))
    whole = query_answer(table, NodeQuery(), START, largest=1 << 20)
    assert (whole.count, whole.next_cursor) == (50, None)
    seen: list[str] = []
    query = NodeQuery(query_id="q")
    while True:
        page = query_answer(table, query, START, largest=10_000)
        assert page.query_id == "q"
        seen += page.node_ids
        if page.next_cursor is None:
            break
        query = NodeQuery(query_id="q", cursor=page.next_cursor)
    assert seen == sorted(whole.node_ids)


def test_a_limit_on_a_rare_and_on_a_common_kind() -> None:
    table = NodeTable()
    for number in range(40):
        table.announce(
            document(f"n{number:02}", gpus=[RTX_4090], labels={"even": str(number % 2 == 0)}), at(0)
        )
        table.heartbeat(beat(f"n{number:02}", available_vram_mb=number), at(1))
    table.announce(document("rare", gpus=[H100]), at(0))
    assert found(table, requires_gpu=True)[:3] == ["rare", "n39", "n38"]
    assert found(table, min_vram_gb=80) == ["rare"]
    assert found(table, labels={"even": "True"})[:2] == ["n38", "n36"]
    table.announce(document("rare", gpus=[RTX_4090]), at(2))
    table.remove("n39")
    assert found(table, min_vram_gb=80) == []
    assert found(table, requires_gpu=True)[:2] == ["rare", "n38"]
    answer = query_answer(table, NodeQuery(limit=3, query_id="q"), START, largest=10_000_000)
    assert (answer.node_ids, answer.next_cursor) == (["rare", "n38", "n37"], None)
