"""Which node gets an item: filter, score, assign; and, when none, why not, in words."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from compute_common.enums import MemoryLevel, Tier
from compute_common.units import label_to_mib
from work_marshaling.fleet import Fleet, NodeView
from work_marshaling.items import Demand, Item
from work_marshaling.lanes import Lanes

MODEL_WORK = frozenset({"inference", "embedding"})  # the built-in worker asks a running instance

_SHORT = frozenset({MemoryLevel.WARN, MemoryLevel.CRITICAL})
Blocked = Callable[[str, str], bool]


class Filter(NamedTuple):
    """A step of the pipeline; `words` says what is missing when no node passes it."""

    passes: Callable[[NodeView, Demand], bool]
    words: Callable[[Demand], str]


class Placement(NamedTuple):
    item: Item
    node: NodeView


def _has_labels(node: NodeView, demand: Demand) -> bool:
    return all(node.labels.get(key) == value for key, value in demand.labels)


def _has_vram(node: NodeView, demand: Demand) -> bool:
    return not demand.min_vram_gb or node.largest_gpu_mb >= label_to_mib(demand.min_vram_gb)


def _tier_word(demand: Demand) -> str:
    return next((tier.value for tier in Tier if tier.rank == demand.min_tier_rank), "")


FILTERS = (
    Filter(
        lambda node, demand: demand.node_id is None or node.node_id == demand.node_id,
        lambda demand: f"node {demand.node_id} is not registered",
    ),
    Filter(
        lambda node, _: node.online,
        lambda demand: (
            f"node {demand.node_id} is offline"
            if demand.node_id
            else "no node is online; start one with `compute node`"
        ),
    ),
    Filter(
        lambda node, demand: node.takes(demand.work_type),
        lambda demand: f"no online node takes work type '{demand.work_type}'; start a worker that handles it",
    ),
    Filter(
        lambda node, demand: not demand.requires_gpu or node.gpu_count > 0,
        lambda _: "no online node has a GPU",
    ),
    Filter(
        lambda node, demand: node.tier_rank >= demand.min_tier_rank,
        lambda demand: f"no online node is of tier {_tier_word(demand)} or higher",
    ),
    Filter(_has_vram, lambda demand: f"no online node has a GPU with {demand.min_vram_gb:g} GB"),
    Filter(
        _has_labels,
        lambda demand: (
            "no online node has the labels " + ", ".join(f"{key}={value}" for key, value in demand.labels)
        ),
    ),
    Filter(
        lambda node, _: not node.draining, lambda _: "every node that could run it is draining; undrain one"
    ),
    Filter(
        lambda node, _: node.memory_level is not MemoryLevel.CRITICAL,
        lambda _: "every node that could run it is about to run out of memory",
    ),
    Filter(
        lambda node, _: node.slots > 0, lambda _: "every node that could run it offers no slot (slots: 0)"
    ),
)


def serves(node: NodeView, demand: Demand) -> bool:
    """Whether the node itself says that it can do the item's model, or the work type has no use for one."""
    if demand.model is None or demand.model.lower() in node.models:
        return True
    named = node.work_types is not None and node.takes(demand.work_type)
    return named and demand.work_type.lower() not in MODEL_WORK


def _plain(node: NodeView) -> bool:
    """A worker that declares no model at all: it may know any."""
    return not node.managed and not node.models


def eligible(fleet: Fleet, demand: Demand) -> tuple[NodeView, ...]:
    """The nodes that may be given such an item, busy or not.

    A plain worker that declares no model is a last resort: only while no online node serves the model.
    """
    cached = fleet.cached(demand)
    if cached is not None:
        return cached
    fit = [node for node in fleet.nodes.values() if all(step.passes(node, demand) for step in FILTERS)]
    chosen = [node for node in fit if serves(node, demand)]
    if not chosen and not _served_online(fleet, demand):
        chosen = [node for node in fit if _plain(node)]
    return fleet.remember(demand, tuple(chosen))


def _served_online(fleet: Fleet, demand: Demand) -> bool:
    return any(
        node.online and node.takes(demand.work_type) and serves(node, demand) for node in fleet.nodes.values()
    )


def plan(
    lanes: Lanes, fleet: Fleet, load: Mapping[str, int], blocked: Blocked, limit: int
) -> list[Placement]:
    """Up to `limit` placements, first items first. What is placed is out of its lane afterwards."""
    extra: dict[str, int] = {}
    queues: dict[Demand, Iterator[tuple[float, int, Item]]] = {}
    heads: list[tuple[float, int, Item]] = []
    placements: list[Placement] = []

    def free(node: NodeView) -> int:
        return node.slots - load.get(node.node_id, 0) - extra.get(node.node_id, 0)

    def advance(demand: Demand) -> None:
        head = next(queues[demand], None)
        if head is not None:
            heapq.heappush(heads, head)

    for demand in lanes.demands():
        if any(free(node) > 0 for node in eligible(fleet, demand)):
            queues[demand] = lanes.in_order(demand)
            advance(demand)
    while heads and len(placements) < limit:
        _, _, item = heapq.heappop(heads)
        node = choose(item, eligible(fleet, item.demand), free, blocked)
        if node is None:
            lanes.put_back(item)
            continue
        extra[node.node_id] = extra.get(node.node_id, 0) + 1
        lanes.take(item)
        placements.append(Placement(item, node))
        advance(item.demand)
    for _, _, item in heads:
        lanes.put_back(item)
    return placements


def choose(
    item: Item, nodes: tuple[NodeView, ...], free: Callable[[NodeView], int], blocked: Blocked
) -> NodeView | None:
    """The best with a free slot: none that failed it, none short of memory, the emptiest, the fastest."""
    model = (item.demand.model or "").lower()
    best: NodeView | None = None
    best_score: tuple[bool, bool, float, float, str] | None = None
    for node in nodes:
        slots = free(node)
        if slots <= 0 or blocked(node.node_id, item.demand.work_type):
            continue
        failed_it = node.node_id == item.last_node or node.node_id in item.failed_on
        roomy = node.memory_level not in _SHORT
        score = (not failed_it, roomy, slots / node.slots, node.speed.get(model, 0.0), node.node_id)
        if best_score is None or score > best_score:
            best, best_score = node, score
    return best


def explain(demand: Demand, fleet: Fleet, load: Mapping[str, int], blocked: Blocked) -> str:
    """Why an item with this demand is not assigned now."""
    nodes = eligible(fleet, demand)
    if not nodes:
        return _missing(demand, fleet)
    open_nodes = [node for node in nodes if not blocked(node.node_id, demand.work_type)]
    if not open_nodes:
        return "every node that could run it is set aside after repeated failures (see /api/v1/blacklist)"
    if all(load.get(node.node_id, 0) >= node.slots for node in open_nodes):
        slots = sum(node.slots for node in open_nodes)
        return f"all {slots} slots of the {len(open_nodes)} nodes that fit are busy"
    return "it is being assigned"


def _missing(demand: Demand, fleet: Fleet) -> str:
    no_model = ""
    needs_model = demand.model is not None and demand.work_type.lower() in MODEL_WORK
    if needs_model and not _served_online(fleet, demand):
        no_model = f"no ready instance of {demand.model}; deploy it"
    remaining = list(fleet.nodes.values())
    for step in FILTERS:
        passed = [node for node in remaining if step.passes(node, demand)]
        if not passed:
            words = step.words(demand) if remaining else "no node is online; start one with `compute node`"
            return f"{no_model} ({words})" if no_model else words
        remaining = passed
    return no_model or f"no node that fits serves the model {demand.model}"
