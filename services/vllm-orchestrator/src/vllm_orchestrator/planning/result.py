"""What planning answers: a plan, or a refusal that names the shortfall."""

from dataclasses import dataclass, field
from typing import Any

from compute_common.enums import EngineKind, Strategy
from compute_common.units import MIB
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.memory import RankMemory


@dataclass(frozen=True)
class Wish:
    """What was asked for beside the model; None = the planner chooses."""

    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_batched_tokens: int | None = None
    quantization: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    enforce_eager: bool = False
    gpu_memory_utilization: float | None = None
    node_id: str | None = None
    gpu_indices: tuple[int, ...] | None = None  # only these, on whichever host
    strategy: Strategy | None = None
    tp: int | None = None
    pp: int | None = None
    engine: EngineKind | None = None
    engine_version: str | None = None
    backend: str | None = None  # that spans hosts: mp or ray
    advise: bool = True  # say what would fit, where nothing does
    kv_advised: bool = False  # kv_cache_dtype is the detector's word, not the request's


@dataclass(frozen=True)
class Place:
    """The part of one host: these GPUs (none = its RAM), so many MiB of each."""

    node_id: str
    gpu_indices: tuple[int, ...]
    reserved_mb: int
    address: str = ""
    devices: tuple[str, ...] = ()  # for CUDA_VISIBLE_DEVICES, where indices do not do: MIG slices


@dataclass(frozen=True)
class Rejected:
    layout: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A layout that fits; memory is of the fullest rank."""

    profile: ModelProfile
    engine: EngineKind
    strategy: Strategy
    tp: int
    pp: int
    places: tuple[Place, ...]
    memory: RankMemory
    kv_cache_bytes: int
    kv_cache_tokens: int
    max_model_len: int
    max_num_seqs: int
    max_batched_tokens: int
    utilization: float | None
    threads: int
    explanation: str
    wish: Wish = Wish()
    rejected: tuple[Rejected, ...] = ()
    vendor: str = "nvidia"
    card: str = ""  # the product, of the first stage
    dtype: str | None = None  # to start with, where it is not the model's own
    expert_parallel: bool = False
    stage_layers: tuple[int, ...] = ()  # where vLLM would not deal them out so by itself
    environment: tuple[tuple[str, str], ...] = ()
    spare_replicas: int = 0  # further copies that the GPUs left over would hold
    tokens_per_s: float | None = None  # of one request: measured, else expected
    alternatives: tuple[dict[str, Any], ...] = ()

    @property
    def total_mb(self) -> int:
        return to_mib(self.memory.fixed + self.kv_cache_bytes)


@dataclass(frozen=True)
class NoFit:
    """Nothing fits: what is short, in MiB, and what would fit."""

    reason: str
    shortfall: dict[str, Any] = field(default_factory=dict)
    alternatives: tuple[dict[str, Any], ...] = ()
    rejected: tuple[Rejected, ...] = ()


def to_mib(size: float) -> int:
    """Bytes as whole MiB, rounded up."""
    return -int(-size // MIB)
