"""The hosts a plan may use, out of node documents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from compute_common.enums import EngineKind, MemoryLevel, NodeStatus
from compute_common.gpu_bandwidth import bandwidth_by_name
from compute_common.schemas.node import Gpu, GpuSlice, Node
from compute_common.schemas.vllm import InventoryNode

KIND_STEP_MB = 512  # two cards of one product differ by less than this
BIG_CARD_MB = 70 * 1024
FIRST_SLICE, SLICES_PER_CARD = 100, 100  # the ledger's indices of MIG slices: 100 x (card + 1) and up


class Kind(NamedTuple):
    """What GPUs must share to be ranks of one stage."""

    vendor: str
    name: str
    size: int
    sliced: bool


@dataclass(frozen=True)
class GpuSlot:
    """One GPU, or one MIG slice of one; `free_mb` is what a new engine may claim."""

    index: int
    vendor: str
    name: str
    total_mb: int
    free_mb: int
    capability: float | None = None
    links: frozenset[int] = frozenset()
    device: str = ""  # what CUDA_VISIBLE_DEVICES takes, where that is not the index: a slice's uuid
    bandwidth_gb_s: float | None = None

    @property
    def kind(self) -> Kind:
        """GPUs of one kind may share a stage: same product, same memory size."""
        return Kind(self.vendor, self.name, round(self.total_mb / KIND_STEP_MB), bool(self.device))

    @property
    def may_be_linked(self) -> bool:
        """Whether to reckon with the buffers of fast links: known ones, or a card that mostly has them."""
        return bool(self.links) or self.total_mb >= BIG_CARD_MB


@dataclass(frozen=True)
class Advice:
    """What a host's detector recommends for engines on it."""

    dtype: str | None = None
    kv_cache_dtype: str | None = None
    quantization: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


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
    measured: tuple[tuple[str, float], ...] = ()  # (model, output tokens/s at its best batch)
    models: frozenset[str] = frozenset()  # whose files are whole there, `folded`
    advice: Advice = Advice()


def host_of_document(document: InventoryNode) -> Host:
    """A host as a question tells it: free VRAM is total less what it says is used."""
    memory, cpu = document.memory, document.cpu
    total = (memory.total_mb if memory else None) or 0
    available = memory.available_mb if memory and memory.available_mb is not None else total
    threads = (cpu.cores or cpu.threads or 1) if cpu else 1
    offline = document.is_online is False or document.status is NodeStatus.OFFLINE
    draining = bool(document.is_draining) or document.status is NodeStatus.DRAINING
    return Host(
        node_id=document.node_id,
        gpus=gpu_slots(document.gpus or ()),
        ram_total_mb=total,
        ram_available_mb=available,
        threads=max(1, threads),
        address=document.ipv4 or document.hostname,
        closed=_closed(offline, draining, document.memory_level),
        advice=_advice((document.model_extra or {}).get("recommendations")),
        models=frozenset(map(folded, document.local_models)),
    )


def host_of_node(node: Node) -> Host:
    """A host as the registry tells it."""
    cores = node.cpu.cores or node.cpu.threads or 1
    total = node.memory.total_mb or 0
    available = node.memory.available_mb if node.memory.available_mb is not None else total
    if node.available_memory_mb is not None:
        available = min(available, node.available_memory_mb)
    fastest: dict[str, float] = {}
    for each in node.measured:
        fastest[each.model] = max(each.output_tokens_per_s, fastest.get(each.model, 0.0))
    offline = not node.is_online or node.status is NodeStatus.OFFLINE
    return Host(
        node_id=node.node_id,
        gpus=gpu_slots(node.gpus),
        ram_total_mb=total,
        ram_available_mb=available,
        threads=max(1, cores),
        address=node.ipv4 or node.hostname,
        closed=_closed(offline, node.is_draining, node.memory_level),
        measured=tuple(sorted(fastest.items())),
        advice=_advice((node.model_extra or {}).get("recommendations")),
    )


def _closed(offline: bool, draining: bool, memory: MemoryLevel | None) -> str:
    """Why a host takes nothing new."""
    if offline:
        return "it is offline"
    if draining:
        return "it is draining"
    return (
        "it is about to run out of memory (memory level critical)" if memory is MemoryLevel.CRITICAL else ""
    )


def folded(name: str) -> str:
    """A model's name as folders and files are compared: its last part, in lower case, without `.gguf`."""
    return name.rpartition("/")[2].lower().removesuffix(".gguf")


def _advice(told: object) -> Advice:
    """The detector's `recommendations`; whatever in them is not of the kind expected is left out."""
    if not isinstance(told, Mapping):
        return Advice()
    env, formats = told.get("env"), told.get("quantization")
    named = {str(key)[:128]: value for key, value in env.items()} if isinstance(env, Mapping) else {}
    return Advice(
        dtype=_word(told.get("dtype")),
        kv_cache_dtype=_word(told.get("kv_cache_dtype")),
        quantization=tuple(filter(None, map(_word, formats[:32]))) if isinstance(formats, list) else (),
        env=tuple((key, value) for key, value in sorted(named.items()) if _is_setting(key, value))[:32],
    )


def _word(value: object) -> str | None:
    known = isinstance(value, str) and len(value) <= 64 and value.replace("_", "").replace("-", "").isalnum()
    return str(value) if known and value != "auto" else None


def _is_setting(key: str, value: object) -> bool:
    """Only engine settings pass, so that a document cannot set a loader's path or a proxy."""
    allowed = key.startswith(("VLLM_", "OMP_", "NCCL_")) and key.replace("_", "").isalnum()
    return allowed and isinstance(value, str) and len(value) <= 256 and value.isprintable()


def gpu_slots(gpus: Iterable[Gpu]) -> tuple[GpuSlot, ...]:
    """The GPUs whose memory is known; of a card in MIG mode its slices, each for itself."""
    found: list[GpuSlot] = []
    for gpu in gpus:
        if gpu.slices or not gpu.schedulable:
            found += [
                _slice_slot(gpu, number, part) for number, part in enumerate(gpu.slices) if part.vram_mb
            ]
        elif gpu.vram_mb:
            found.append(_slot(gpu, gpu.vram_mb))
    return tuple(found)


def _slot(gpu: Gpu, total_mb: int) -> GpuSlot:
    return GpuSlot(
        index=gpu.index,
        vendor=_vendor(gpu),
        name=gpu.name,
        total_mb=total_mb,
        free_mb=max(0, total_mb - (gpu.vram_used_mb or 0)),
        capability=_capability(gpu.compute_capability),
        links=frozenset(link.to for link in gpu.links if link.to is not None),
        bandwidth_gb_s=gpu.bandwidth_gb_s or _bandwidth(gpu.name, total_mb),
    )


def _slice_slot(gpu: Gpu, number: int, part: GpuSlice) -> GpuSlot:
    total, card = part.vram_mb or 0, gpu.vram_mb or part.vram_mb or 1
    bandwidth = gpu.bandwidth_gb_s or _bandwidth(gpu.name, card)
    return GpuSlot(
        index=FIRST_SLICE + SLICES_PER_CARD * gpu.index + number,
        vendor=_vendor(gpu),
        name=f"{gpu.name} slice {part.name}",
        total_mb=total,
        free_mb=max(0, total - (part.vram_used_mb or 0)),
        capability=_capability(gpu.compute_capability),
        device=part.uuid or f"{gpu.index}:{number}",
        bandwidth_gb_s=bandwidth * min(1.0, total / card) if bandwidth else None,
    )


@lru_cache(maxsize=1024)
def _bandwidth(name: str, total_mb: int) -> float | None:
    return bandwidth_by_name(name, total_mb)


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
