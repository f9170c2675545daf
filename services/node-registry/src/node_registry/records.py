"""What the table keeps of a node."""

from dataclasses import dataclass, field
from datetime import datetime

from compute_common.enums import InstanceStatus, NodeStatus
from compute_common.schemas.node import Heartbeat, Measured, NodeDocument
from node_registry.liveness import Life


@dataclass(frozen=True)
class Moment:
    """When something happened: `mono` on the registry's monotonic clock, `wall` for people."""

    mono: float
    wall: datetime
    by_bus: bool = True


@dataclass(frozen=True)
class Boots:
    """Boot ids heard under one node id; two that alternate are two hosts with one id."""

    current: str | None = None
    previous: str | None = None
    since: float = 0.0  # monotonic: when `current` was first heard after another
    cloned: bool = False


@dataclass(frozen=True)
class NodeRecord:
    document: NodeDocument
    registered_at: datetime
    life: Life
    online: bool = True
    beat: Heartbeat | None = None
    last_heartbeat: datetime | None = None
    measured: tuple[Measured, ...] = ()
    boots: Boots = field(default_factory=Boots)

    @property
    def node_id(self) -> str:
        return self.document.node_id

    @property
    def own_status(self) -> NodeStatus:
        """The status the node itself last claimed."""
        claimed = self.beat.status if self.beat else None
        return claimed or NodeStatus.ONLINE


@dataclass(frozen=True)
class InstanceFacts:
    """What the registry needs to know of a model instance on a node."""

    instance_name: str
    model_name: str
    status: InstanceStatus
    served_names: tuple[str, ...]
    api: str | None
    confirmed: float  # monotonic; repeated every 15 s by its orchestrator
    wakeable: bool = False  # idle; the next request or work item starts it

    @property
    def serves(self) -> bool:
        """Whether work for it may be sent to its node."""
        return self.ready or self.wakeable

    @property
    def ready(self) -> bool:
        return self.status is InstanceStatus.READY


@dataclass(frozen=True)
class Change:
    """`event`: joined, updated, draining, offline or removed."""

    event: str
    node_id: str
