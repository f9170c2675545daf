"""A host that drains or is about to run out of memory gets no new engine, and the answer names it."""

import pytest

from compute_common.enums import MemoryLevel
from compute_common.schemas.node import Node
from compute_common.schemas.vllm import InventoryNode, PlanRequest
from tests.integration.work_marshaling.cluster import node_record
from tests.unit.vllm_orchestrator.shapes import H100, RTX_4090, host, known
from vllm_orchestrator.planning.inventory import host_of_document, host_of_node
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish

MODEL = Model(vllm=known("qwen3-0.6b"))


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"memory_level": "critical"}, "out of memory"),
        ({"is_draining": True, "status": "draining"}, "draining"),
        ({"is_online": False, "status": "offline"}, "offline"),
        ({}, ""),
        *(({"memory_level": level.value}, "") for level in MemoryLevel if level is not MemoryLevel.CRITICAL),
    ],
)
def test_what_closes_a_host(state: dict[str, object], word: str) -> None:
    closed = host_of_node(Node.model_validate(node_record("a", **state))).closed
    assert word in closed
    assert bool(closed) is bool(word)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"status": "draining"}, "draining"),
        ({"is_draining": True}, "draining"),
        ({"status": "offline"}, "offline"),
        ({"is_online": False}, "offline"),
        ({"memory_level": "critical"}, "out of memory"),
        ({"status": "online", "is_online": True, "is_draining": False, "memory_level": "ok"}, ""),
        ({"status": None, "is_online": None}, ""),
    ],
)
@pytest.mark.parametrize("shape", [{"memory": {"total_gb": 8}}, {"memory_gb": 8}])
def test_what_closes_a_host_of_a_question(
    state: dict[str, object], word: str, shape: dict[str, object]
) -> None:
    asked = {"model_name": "m", "inventory": [{"node_id": "a", "hostname": "a", **shape, **state}]}
    [document] = PlanRequest.model_validate(asked).inventory or []
    found = host_of_document(document)
    assert found.ram_total_mb == 8192
    assert word in found.closed
    assert bool(found.closed) is bool(word)


def test_a_host_of_a_question_may_name_the_models_it_has() -> None:
    document = InventoryNode(node_id="a", hostname="a", local_models=["org/Model-GGUF.gguf"])
    assert host_of_document(document).models == {"model-gguf"}


def test_the_plan_goes_elsewhere_and_says_so() -> None:
    found = plan(MODEL, [host("best", 1, RTX_4090, closed="it is full"), host("other", 8, H100)], Wish())
    assert isinstance(found, Plan)
    assert [place.node_id for place in found.places] == ["other"]
    assert "Left out: best: it is full." in found.explanation
    assert ("host best", "it is full") in [(each.layout, each.reason) for each in found.rejected]


def test_nowhere_else_is_a_refusal_with_the_reason() -> None:
    found = plan(MODEL, [host("only", 8, H100, closed="it is full")], Wish())
    assert isinstance(found, NoFit)
    assert found.reason == "no host takes a new engine now: only: it is full"


def test_only_the_asked_for_host_is_named() -> None:
    hosts = [host("a", 8, H100, closed="it is full"), host("b", 8, H100, closed="it drains")]
    found = plan(MODEL, hosts, Wish(node_id="b"))
    assert isinstance(found, NoFit)
    assert found.reason == "no host takes a new engine now: b: it drains"
