"""Who gets what, and why not."""

from collections import Counter
from typing import Any

import pytest

from compute_common.enums import MemoryLevel, Tier
from work_marshaling import placement
from work_marshaling.fleet import Fleet, NodeView
from work_marshaling.items import Demand, Item
from work_marshaling.lanes import Lanes


def free_for_all(_node: str, _work_type: str) -> bool:
    return False


def item(name: str, seq: int = 1, demand: Demand | None = None, **values: Any) -> Item:
    values.setdefault("priority", 5)
    values.setdefault("created", float(seq))
    return Item(name, seq, demand=demand or Demand("test"), timeout_seconds=300, **values)


def lanes_of(*items: Item, ageing: float = 1e6) -> Lanes:
    lanes = Lanes(ageing)
    for each in items:
        lanes.update(each, 1000.0)
    return lanes


def placed(lanes: Lanes, fleet: Fleet, load: dict[str, int] | None = None) -> list[tuple[str, str]]:
    found = placement.plan(lanes, fleet, Counter(load or {}), free_for_all, 100)
    return [(each.work_id, node.node_id) for each, node in found]


def test_priority_goes_first_then_age() -> None:
    lanes = lanes_of(
        item("late", 3, priority=1), item("old", 1), item("young", 2), item("urgent", 4, priority=0)
    )
    order = [name for name, _ in placed(lanes, Fleet([NodeView("n", slots=9)]))]
    assert order == ["urgent", "late", "old", "young"]


def test_waiting_long_enough_beats_priority() -> None:
    lanes = lanes_of(item("old", 1, priority=9), item("urgent", 1000, priority=0), ageing=100)
    assert placed(lanes, Fleet([NodeView("n")])) == [("old", "n")]


def test_slots_are_kept_and_what_does_not_fit_stays() -> None:
    items = [item(f"i{n}", n) for n in range(5)]
    lanes = lanes_of(*items)
    fleet = Fleet([NodeView("a", slots=2), NodeView("b", slots=2)])
    assert Counter(node for _, node in placed(lanes, fleet, {"a": 1})) == {"a": 1, "b": 2}
    assert placed(lanes, fleet, {"a": 2, "b": 2}) == []
    assert [name for name, _ in placed(lanes, fleet)] == ["i3", "i4"]
    assert placed(lanes, fleet) == []


def test_a_lane_that_cannot_move_does_not_hold_up_another() -> None:
    gpu = Demand("test", requires_gpu=True)
    lanes = lanes_of(*(item(f"g{n}", n, gpu, priority=0) for n in range(50)), item("cpu", 99))
    assert placed(lanes, Fleet([NodeView("n")])) == [("cpu", "n")]


def test_a_delayed_item_waits_for_its_time() -> None:
    lanes = lanes_of(item("later", not_before=2000.0))
    fleet = Fleet([NodeView("n")])
    assert lanes.next_due() == 2000.0
    assert placed(lanes, fleet) == []
    lanes.release(2000.0)
    assert placed(lanes, fleet) == [("later", "n")]


def test_the_node_that_failed_it_is_avoided_and_the_faster_one_preferred() -> None:
    nodes = [NodeView("z"), NodeView("b", speed={"m": 10.0}), NodeView("a", speed={"m": 90.0})]
    fleet = Fleet([NodeView(node.node_id, models=frozenset({"m"}), speed=node.speed) for node in nodes])
    demand = Demand("inference", "M")
    assert placed(lanes_of(item("i", demand=demand)), fleet) == [("i", "a")]
    assert placed(lanes_of(item("i", demand=demand, last_node="a")), fleet) == [("i", "b")]


def test_a_plain_worker_gets_a_model_only_when_nobody_serves_it() -> None:
    plain, serving = NodeView("plain"), NodeView("serving", models=frozenset({"llama-3-70b"}))
    demand = Demand("inference", "Llama-3-70B")
    assert placement.eligible(Fleet([plain]), demand) == (plain,)
    assert placement.eligible(Fleet([plain, serving]), demand) == (serving,)
    offline = NodeView("serving", models=serving.models, online=False)
    assert placement.eligible(Fleet([plain, offline]), demand) == (plain,)
    assert placed(lanes_of(item("i", demand=demand)), Fleet([plain, serving]), {"serving": 1}) == []


def test_a_managed_host_takes_only_what_its_program_announced() -> None:
    assert not NodeView("n", managed=True).takes("test")
    assert NodeView("n").takes("test")
    assert NodeView("n", managed=True, work_types=frozenset({"test"})).takes("TEST")
    assert not NodeView("n", work_types=frozenset()).takes("test")


HOST = NodeView("n", managed=True, work_types=frozenset({"inference", "test"}))


@pytest.mark.parametrize(
    ("demand", "nodes", "words"),
    [
        (Demand("test"), [], "no node is online; start one with `compute node`"),
        (Demand("test", node_id="x"), [NodeView("n")], "node x is not registered"),
        (Demand("test", node_id="n"), [NodeView("n", online=False)], "node n is offline"),
        (
            Demand("inference", "llama-3-70b"),
            [HOST],
            "no ready instance of llama-3-70b; deploy it",
        ),
        (
            Demand("render"),
            [HOST],
            "no online node takes work type 'render'; start a worker that handles it",
        ),
        (Demand("test", requires_gpu=True), [NodeView("n")], "no online node has a GPU"),
        (
            Demand("test", min_tier_rank=Tier.GPU_PEER.rank),
            [NodeView("n", tier_rank=1)],
            "no online node is of tier GPU_PEER or higher",
        ),
        (
            Demand("test", min_vram_gb=24),
            [NodeView("n", gpu_count=1, largest_gpu_mb=16_000)],
            "no online node has a GPU with 24 GB",
        ),
        (
            Demand("test", labels=(("site", "a"),)),
            [NodeView("n", labels={"site": "b"})],
            "no online node has the labels site=a",
        ),
        (
            Demand("test"),
            [NodeView("n", draining=True)],
            "every node that could run it is draining; undrain one",
        ),
        (
            Demand("test"),
            [NodeView("n", memory_level=MemoryLevel.CRITICAL)],
            "every node that could run it is about to run out of memory",
        ),
        (Demand("test"), [NodeView("n", slots=0)], "every node that could run it offers no slot (slots: 0)"),
    ],
)
def test_why_it_waits(demand: Demand, nodes: list[NodeView], words: str) -> None:
    fleet = Fleet(nodes)
    assert placement.eligible(fleet, demand) == ()
    assert placement.explain(demand, fleet, {}, free_for_all) == words


def test_a_node_short_of_memory_comes_last_and_all_that_failed_it_after() -> None:
    nodes = [NodeView("z", memory_level=MemoryLevel.WARN, slots=9), NodeView("b"), NodeView("a", slots=9)]
    assert placed(lanes_of(item("i")), Fleet(nodes), {"a": 8}) == [("i", "b")]
    assert placed(lanes_of(item("i", failed_on=("b", "a"), last_node="c")), Fleet(nodes)) == [("i", "z")]
    assert placed(lanes_of(item("i", failed_on=("b", "z"))), Fleet(nodes)) == [("i", "a")]


def test_nothing_starves_and_nodes_share_alike() -> None:
    """Urgent work that never ends: what is least urgent starts once it has waited its steps' worth."""
    lanes, fleet = lanes_of(item("patient", 0, priority=9), ageing=10), Fleet([NodeView("n"), NodeView("m")])
    shares: Counter[str] = Counter()
    for now in range(1, 200):
        for each in range(3):  # more than two slots can take
            lanes.update(item(f"u{now}-{each}", now * 10 + each, priority=0, created=float(now)), 1e6)
        for work_id, node in placed(lanes, fleet):
            shares[node] += 1
            if work_id == "patient":
                assert now <= 9 * 10 * 3 / 2 + 2  # its place in line, at the pace of the slots
                assert abs(shares["n"] - shares["m"]) <= 1
                return
    raise AssertionError("it starved")


def test_a_busy_or_blacklisted_fleet_is_said_too() -> None:
    fleet = Fleet([NodeView("n", slots=2)])
    busy = placement.explain(Demand("test"), fleet, {"n": 2}, free_for_all)
    assert busy == "all 2 slots of the 1 nodes that fit are busy"
    aside = placement.explain(Demand("test"), fleet, {}, lambda _node, _type: True)
    assert aside.startswith("every node that could run it is set aside")


def test_a_card_sold_as_24_gb_meets_a_24_gb_filter() -> None:
    node = NodeView("n", gpu_count=1, largest_gpu_mb=24_564)
    assert placement.eligible(Fleet([node]), Demand("test", min_vram_gb=24)) == (node,)
