"""A row of the table: a record with what filters, ranking and the clock need at hand."""

from dataclasses import dataclass

from compute_common.enums import NodeStatus
from node_registry.liveness import allowed_silence
from node_registry.profiles import Profile
from node_registry.records import NodeRecord

_STATUS_ORDER = {
    status: order
    for order, status in enumerate(
        (NodeStatus.ONLINE, NodeStatus.BUSY, NodeStatus.DRAINING, NodeStatus.OFFLINE)
    )
}

# Status, draining, then most free GPU memory, most free RAM, highest measured speed, id.
Rank = tuple[int, bool, float, float, float, str]


@dataclass(frozen=True, slots=True)
class Row:
    """`deadline`: the monotonic second after which the node's silence means that it is gone."""

    record: NodeRecord
    profile: Profile
    kind: int  # of nodes with the same facets
    status: NodeStatus
    is_draining: bool
    available_vram_mb: int | None
    available_memory_mb: int | None
    deadline: float
    rank: Rank

    @property
    def node_id(self) -> str:
        return self.record.document.node_id

    @property
    def is_online(self) -> bool:
        return self.record.online


def row_of(
    record: NodeRecord, profile: Profile, kind: int, drained: bool, register_ttl_seconds: float
) -> Row:
    """The row of a record as it stands."""
    status = status_of(record, drained)
    draining = drained or record.own_status is NodeStatus.DRAINING
    beat = record.beat
    vram, ram = profile.free_vram_mb, profile.free_ram_mb
    if beat is not None:
        vram = vram if beat.available_vram_mb is None else beat.available_vram_mb
        ram = ram if beat.available_memory_mb is None else beat.available_memory_mb
    silence = allowed_silence(record.document.heartbeat_seconds, record.life, register_ttl_seconds)
    rank = (
        _STATUS_ORDER[status],
        draining,
        -(profile.facets.vram_mb if vram is None else vram),
        -(profile.facets.ram_mb if ram is None else ram),
        -speed(record, None),
        record.document.node_id,
    )
    return Row(record, profile, kind, status, draining, vram, ram, record.life.last_seen + silence, rank)


def status_of(record: NodeRecord, drained: bool) -> NodeStatus:
    """offline before draining before busy before online."""
    if not record.online:
        return NodeStatus.OFFLINE
    own = record.own_status
    if drained or own is NodeStatus.DRAINING:
        return NodeStatus.DRAINING
    return NodeStatus.BUSY if own is NodeStatus.BUSY else NodeStatus.ONLINE


def speed(record: NodeRecord, model: str | None) -> float:
    """The best measured output tokens per second, of `model` (lower case) where one is asked for."""
    if not record.measured:
        return 0.0
    return max(
        (
            item.output_tokens_per_s
            for item in record.measured
            if model is None or model in (item.model.lower(), item.model.lower().rsplit("/", 1)[-1])
        ),
        default=0.0,
    )
