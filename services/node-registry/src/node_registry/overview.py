"""One document for the status page."""

import contextlib
from collections import Counter as Tally

from pydantic import Field

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import InstanceStatus, Tier
from compute_common.problems import Problem
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.node import NodeStats
from compute_common.times import UtcTime, utc_now
from node_registry.answers import warnings_of
from node_registry.rows import Row
from node_registry.table import NodeTable

QUEUE_TIMEOUT_SECONDS = 0.5
MOST_WARNINGS = 100


class OverviewInstance(Wire):
    node_id: str
    instance_name: str
    model_name: str
    status: InstanceStatus


class OverviewGpus(Wire):
    count: int = Field(description="GPUs of online nodes")
    total_mb: int
    available_mb: int = Field(description="As last reported by their nodes")


class Overview(Wire):
    nodes: NodeStats
    gpus: OverviewGpus
    instances: list[OverviewInstance]
    queue: JsonObject | None = Field(None, description="Statistics of work marshaling; null while it is away")
    warnings: list[str]
    timestamp: UtcTime


def stats(table: NodeTable) -> NodeStats:
    """Counts of nodes; `by_tier` counts every known node."""
    nodes = list(table.rows())
    online = sum(node.is_online for node in nodes)
    tiers = Tally(node.profile.facets.tier for node in nodes)
    return NodeStats(
        total_nodes=len(nodes),
        online_nodes=online,
        offline_nodes=len(nodes) - online,
        by_tier={tier.value: tiers[tier] for tier in Tier},
        timestamp=utc_now(),
    )


async def overview(table: NodeTable, bus: Bus) -> Overview:
    """What the registry knows, and the queue's statistics when work marshaling answers in time."""
    nodes = list(table.rows())
    return Overview(
        nodes=stats(table),
        gpus=_gpus(nodes),
        instances=[
            OverviewInstance(
                node_id=node_id,
                instance_name=facts.instance_name,
                model_name=facts.model_name,
                status=facts.status,
            )
            for node_id, facts in table.instances()
        ],
        queue=await _queue(bus),
        warnings=[f"{node.node_id}: {text}" for node in nodes for text in warnings_of(node)][:MOST_WARNINGS],
        timestamp=utc_now(),
    )


def _gpus(nodes: list[Row]) -> OverviewGpus:
    online = [node for node in nodes if node.is_online]
    return OverviewGpus(
        count=sum(node.profile.facets.gpu_count for node in online),
        total_mb=sum(node.profile.facets.vram_mb for node in online),
        available_mb=sum(node.available_vram_mb or 0 for node in online),
    )


async def _queue(bus: Bus) -> JsonObject | None:
    with contextlib.suppress(Problem, ValueError):
        return await bus.request(subjects.WORK_STATUS, {}, QUEUE_TIMEOUT_SECONDS)
    return None
