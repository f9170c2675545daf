"""The nodes as the scheduler sees them: one immutable picture at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from compute_common.enums import MemoryLevel
from compute_common.schemas.node import Node
from work_marshaling.items import Demand


@dataclass(frozen=True, slots=True)
class NodeView:
    """What placement needs of a node. Names are folded to lower case; None work types = any."""

    node_id: str
    online: bool = True
    draining: bool = False
    managed: bool = False
    fenced: bool = False
    own_subjects: bool = False  # it announced itself on `compute.node.<id>.…` and is addressed there
    session: str | None = None
    work_types: frozenset[str] | None = None
    models: frozenset[str] = frozenset()
    slots: int = 1
    tier_rank: int = 0
    gpu_count: int = 0
    largest_gpu_mb: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    memory_level: MemoryLevel = MemoryLevel.OK
    speed: Mapping[str, float] = field(default_factory=dict)

    def takes(self, work_type: str) -> bool:
        """Whether it takes this kind of work. A managed host takes only what its node program announced."""
        if self.work_types is None:
            return not self.managed
        return work_type.lower() in self.work_types


def view(node: Node, default_slots: int) -> NodeView:
    """The view of a registry's node record."""
    session = (node.model_extra or {}).get("session")
    return NodeView(
        node_id=node.node_id,
        online=node.is_online,
        draining=node.is_draining,
        managed=node.managed is True,
        fenced=node.fenced is True,
        own_subjects=node.own_subjects is True,
        session=session if isinstance(session, str) else None,
        work_types=frozenset(name.lower() for name in node.work_types)
        if node.work_types is not None
        else None,
        models=frozenset(name.lower() for name in node.supported_models or ()),
        slots=default_slots if node.slots is None else node.slots,
        tier_rank=node.tier.rank,
        gpu_count=node.gpu_count,
        largest_gpu_mb=max((gpu.vram_mb or 0 for gpu in node.gpus), default=0),
        labels=node.labels,
        memory_level=node.memory_level,
        speed=_best_speeds(node),
    )


def _best_speeds(node: Node) -> dict[str, float]:
    best: dict[str, float] = {}
    for measured in node.measured:
        name = measured.model.lower()
        best[name] = max(best.get(name, 0.0), measured.output_tokens_per_s)
    return best


class Fleet:
    """An immutable set of nodes. Eligible nodes are worked out once per demand."""

    def __init__(self, nodes: Iterable[NodeView] = ()) -> None:
        self.nodes = {node.node_id: node for node in nodes}
        self._eligible: dict[Demand, tuple[NodeView, ...]] = {}

    def with_node(self, node: NodeView) -> "Fleet":
        return Fleet({**self.nodes, node.node_id: node}.values())

    def without(self, node_id: str) -> "Fleet":
        return Fleet(node for node in self.nodes.values() if node.node_id != node_id)

    def cached(self, demand: Demand) -> tuple[NodeView, ...] | None:
        return self._eligible.get(demand)

    def remember(self, demand: Demand, nodes: tuple[NodeView, ...]) -> tuple[NodeView, ...]:
        if len(self._eligible) > 10_000:
            self._eligible.clear()
        self._eligible[demand] = nodes
        return nodes
