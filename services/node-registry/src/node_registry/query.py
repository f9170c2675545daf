"""Which nodes match a filter, and which of them are best."""

from collections.abc import Iterable

from compute_common.enums import NodeStatus
from compute_common.schemas.node import Node, NodeQuery
from compute_common.units import label_to_mib

_STATUS_ORDER = [NodeStatus.ONLINE, NodeStatus.BUSY, NodeStatus.DRAINING, NodeStatus.OFFLINE]


def select(nodes: Iterable[Node], query: NodeQuery) -> list[Node]:
    """Every matching node, best first (`limit` is the caller's business)."""
    found = [node for node in nodes if matches(node, query)]
    found.sort(key=lambda node: _rank(node, query.model))
    return found


def matches(node: Node, query: NodeQuery) -> bool:
    """Whether one node meets every part of the filter."""
    return (
        _status_fits(node, query)
        and _gpus_fit(node, query)
        and _host_fits(node, query)
        and (query.model is None or serves(node, query.model))
        and (query.work_type is None or takes(node, query.work_type))
    )


def serves(node: Node, model: str) -> bool:
    """Whether `model` is, ignoring case, one of the node's models or the last path part of one."""
    asked = model.lower()
    return any(
        asked in (name.lower(), name.lower().rsplit("/", 1)[-1]) for name in node.supported_models or ()
    )


def takes(node: Node, work_type: str) -> bool:
    """A node that names work types takes only those; a managed one that names none takes nothing."""
    if node.work_types is None:
        return not node.managed
    return work_type.lower() in (name.lower() for name in node.work_types)


def _status_fits(node: Node, query: NodeQuery) -> bool:
    if query.status is not None:
        return node.status is query.status
    if query.online_only and not node.is_online:
        return False
    return query.include_draining or not node.is_draining


def _gpus_fit(node: Node, query: NodeQuery) -> bool:
    if query.requires_gpu and not node.gpus:
        return False
    if query.min_gpu_count is not None and len(node.gpus) < query.min_gpu_count:
        return False
    if query.min_vram_gb is not None:
        largest = max((gpu.vram_mb or 0 for gpu in node.gpus), default=0)
        if largest < label_to_mib(query.min_vram_gb):
            return False
    return query.min_total_vram_gb is None or node.gpu_vram_mb >= label_to_mib(query.min_total_vram_gb)


def _host_fits(node: Node, query: NodeQuery) -> bool:
    cores = node.cpu_cores or node.cpu_threads or 0
    return (
        (query.tier is None or node.tier is query.tier)
        and (query.min_tier is None or node.tier.rank >= query.min_tier.rank)
        and (query.min_cpu is None or cores >= query.min_cpu)
        and (query.min_ram_mb is None or (node.memory.total_mb or 0) >= query.min_ram_mb)
        and (query.platform is None or node.platform is query.platform)
        and all(node.labels.get(key) == value for key, value in (query.labels or {}).items())
    )


def _rank(node: Node, model: str | None) -> tuple[int, bool, float, float, float, str]:
    """Ready before busy before draining before offline, then free GPU memory, free RAM, measured speed."""
    free_vram = node.available_vram_mb if node.available_vram_mb is not None else node.gpu_vram_mb
    free_ram = node.available_memory_mb if node.available_memory_mb is not None else node.memory.total_mb or 0
    return (
        _STATUS_ORDER.index(node.status),
        node.is_draining,
        -free_vram,
        -free_ram,
        -speed(node, model),
        node.node_id,
    )


def speed(node: Node, model: str | None) -> float:
    """The best measured output tokens per second, of `model` where one is asked for."""
    asked = model.lower() if model else None
    return max(
        (
            item.output_tokens_per_s
            for item in node.measured
            if asked is None or asked in (item.model.lower(), item.model.lower().rsplit("/", 1)[-1])
        ),
        default=0.0,
    )
