"""The hosts a plan may use, out of node documents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compute_common.enums import EngineKind, MemoryLevel, NodeStatus
from compute_common.schemas.node import Gpu, Node, NodeDocument

KIND_STEP_MB = 512  # two cards of one product differ by less than this


@dataclass(frozen=True)
class GpuSlot:
    """One GPU; `free_mb` is what a new engine may claim."""

    index: int
    vendor: str
    name: str
    total_mb: int
    free_mb: int
    capability: float | None = None
    links: frozenset[int] = frozenset()

    @property
    def kind(self) -> tuple[str, int]:
        """GPUs of one kind may share an instance: same vendor, same memory size."""
        return self.vendor, round(self.total_mb / KIND_STEP_MB)


@dataclass(frozen=True)
class Host:
    """A host that takes engines; RAM in MiB. `closed` says why it takes nothing new now; empty = it does."""

    node_id: str
    gpus: tuple[GpuSlot, ...] = ()
    ram_total_mb: int = 0
    ram_available_mb: int = 0
    threads: int = 1
    engines: frozenset[EngineKind] = frozenset(EngineKind)
    address: str = ""
    closed: str = ""


def host_of_document(document: NodeDocument) -> Host:
    """A host as a node document tells it: free VRAM is total less what the document says is used."""
    memory, cpu = document.memory, document.cpu
    total = (memory.total_mb if memory else None) or 0
    available = memory.available_mb if memory and memory.available_mb is not None else total
    threads = (cpu.cores or cpu.threads or 1) if cpu else 1
    return Host(
        node_id=document.node_id,
        gpus=gpu_slots(document.gpus or ()),
        ram_total_mb=total,
        ram_available_mb=available,
        threads=max(1, threads),
        address=document.ipv4 or document.hostname,
    )


def host_of_node(node: Node) -> Host:
    """A host as the registry tells it."""
    cores = node.cpu.cores or node.cpu.threads or 1
    total = node.memory.total_mb or 0
    available = node.memory.available_mb if node.memory.available_mb is not None else total
    if node.available_memory_mb is not None:
        available = min(available, node.available_memory_mb)
    return Host(
        node_id=node.node_id,
        gpus=gpu_slots(node.gpus),
        ram_total_mb=total,
        ram_available_mb=available,
        threads=max(1, cores),
        address=node.ipv4 or node.hostname,
        closed=_closed(node),
    )


def _closed(node: Node) -> str:
    if not node.is_online or node.status is NodeStatus.OFFLINE:
        return "it is offline"
    if node.is_draining:
        return "it is draining"
    if node.memory_level is MemoryLevel.CRITICAL:
        return "it is about to run out of memory (memory level critical)"
    return ""


def gpu_slots(gpus: Iterable[Gpu]) -> tuple[GpuSlot, ...]:
    """The GPUs whose memory is known; one without a size cannot be planned for."""
    return tuple(
        GpuSlot(
            index=gpu.index,
            vendor=_vendor(gpu),
            name=gpu.name,
            total_mb=gpu.vram_mb,
            free_mb=max(0, gpu.vram_mb - (gpu.vram_used_mb or 0)),
            capability=_capability(gpu.compute_capability),
            links=frozenset(link.to for link in gpu.links if link.to is not None),
        )
        for gpu in gpus
        if gpu.vram_mb
    )


def linked(gpus: Sequence[GpuSlot]) -> bool:
    """Whether every two of `gpus` have a fast link; one GPU is linked."""
    return all(other.index in gpu.links or other is gpu for gpu in gpus for other in gpus)


def _vendor(gpu: Gpu) -> str:
    text = f"{gpu.vendor or ''} {gpu.name} {gpu.compute_capability or ''}".lower()
    if "amd" in text or "radeon" in text or "instinct" in text or "gfx" in text:
        return "amd"
    return "intel" if "intel" in text else "nvidia"


def _capability(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
