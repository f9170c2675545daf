"""A node as the overview shows it. Pure."""

from collections.abc import Iterable

from compute_common.enums import NodeStatus
from compute_common.schemas.node import Gpu, Heartbeat, Memory
from node_registry.answers import memory_level, warnings_of
from node_registry.rows import Row
from node_registry.status.heard import Heard
from node_registry.status.models import (
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_GPUS_OF_A_NODE,
    MOST_NODES,
    OverviewGpu,
    OverviewNode,
    Voice,
)

MOST_WARNINGS_OF_A_NODE = 5
SLICES_OF_CARD = 100  # slices of card n have the indices 100 × (n + 1) and up, as in the ledger
_NO_BEAT = Heartbeat(node_id="none")


def shown_rows(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """(the nodes that are shown, by tier and id; how many quiet ones are left out)."""
    every = list(rows)
    left_out = max(0, len(every) - MOST_NODES)
    if left_out:
        every = sorted(every, key=lambda row: (not _wants_attention(row), *_order(row)))[:MOST_NODES]
    return sorted(every, key=_order), left_out


def node_of(row: Row, heard: Heard) -> OverviewNode:
    """The line of one node."""
    record, facets = row.record, row.profile.facets
    beat = record.beat or row.profile.announced or _NO_BEAT
    memory = record.document.memory or Memory()
    online = record.online
    told = online and heard.ledger is Voice.ANSWERS
    gpus = list(heard.gpus) if told else announced_gpus(record.document.gpus or [], beat)
    return OverviewNode(
        node_id=row.node_id,
        hostname=record.document.hostname[:LONGEST_NAME],
        tier=facets.tier,
        status=row.status,
        silent_since=None if online else record.last_heartbeat,
        cpu_utilization=_percents(beat.cpu_utilization) if online else None,
        memory_total_mb=memory.total_mb,
        memory_available_mb=row.available_memory_mb if online else None,
        memory_level=memory_level(row),
        active_jobs=(beat.active_jobs or 0) if online else 0,
        gpu_count=heard.gpu_count if told else facets.gpu_count,
        gpus=gpus[:MOST_GPUS_OF_A_NODE],
        ledger=heard.ledger if online else Voice.UNASKED,
        warnings=[text[:LONGEST_TEXT] for text in warnings_of(row)[:MOST_WARNINGS_OF_A_NODE]],
    )


def announced_gpus(gpus: Iterable[Gpu], beat: Heartbeat) -> list[OverviewGpu]:
    """Cards, and slices of cut ones, as the node announced them; how much is in use only where it told."""
    found: list[OverviewGpu] = []
    load = beat.gpu_utilization or []
    for place, gpu in enumerate(gpus):
        if len(found) >= MOST_GPUS_OF_A_NODE:
            break
        if gpu.schedulable:
            busy = _percents(load[place]) if place < len(load) else None
            found.append(_gpu(gpu.index, gpu.name, gpu.vram_mb, gpu.vram_used_mb, busy))
            continue
        first = SLICES_OF_CARD * (gpu.index + 1)
        found += [
            _gpu(first + number, part.name, part.vram_mb, part.vram_used_mb, None)
            for number, part in enumerate(gpu.slices)
        ]
    return found


def _gpu(
    index: int, name: str, total_mb: int | None, used_mb: int | None, utilization: float | None
) -> OverviewGpu:
    return OverviewGpu(
        index=index, name=name[:LONGEST_NAME], total_mb=total_mb, used_mb=used_mb, utilization=utilization
    )


def _percents(ratio: float | None) -> float | None:
    """Whole percents: a line that wavers by less is not drawn again."""
    return None if ratio is None else round(ratio, 2)


def _wants_attention(row: Row) -> bool:
    return row.status in (NodeStatus.OFFLINE, NodeStatus.DRAINING) or bool(warnings_of(row))


def _order(row: Row) -> tuple[int, str]:
    return -row.profile.facets.tier.rank, row.node_id
