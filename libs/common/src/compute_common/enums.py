"""The words of the wire: case-insensitive and alias-tolerant inbound, canonical outbound."""

from enum import StrEnum
from typing import Any, Self


class WireEnum(StrEnum):
    """An enumeration that accepts any case and the older spellings in `_aliases`."""

    @classmethod
    def _aliases(cls) -> dict[str, str]:
        return {}

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        folded = value.strip().lower()
        folded = cls._aliases().get(folded, folded).lower()
        return next((member for member in cls if member.value.lower() == folded), None)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "enum": [member.value for member in cls]}


class Tier(WireEnum):
    """What a node's hardware is good for, high to low."""

    AI_FACTORY = "AI_FACTORY"
    GPU_PEER = "GPU_PEER"
    GPU_INFRA = "GPU_INFRA"
    CPU_ONLY = "CPU_ONLY"

    @classmethod
    def _aliases(cls) -> dict[str, str]:
        return {"worker_hub": "GPU_PEER", "cpu_peer": "CPU_ONLY", "edge": "CPU_ONLY", "disaster": "CPU_ONLY"}

    @property
    def rank(self) -> int:
        """0 for CPU_ONLY up to 3 for AI_FACTORY, for ordered comparison."""
        return len(Tier) - 1 - Tier._member_names_.index(self.name)


class NodeStatus(WireEnum):
    ONLINE = "online"
    BUSY = "busy"
    DRAINING = "draining"
    OFFLINE = "offline"


class Platform(WireEnum):
    CUDA = "cuda"
    ROCM = "rocm"
    XPU = "xpu"
    METAL = "metal"
    CPU = "cpu"


class MemoryLevel(WireEnum):
    OK = "ok"
    WATCH = "watch"
    WARN = "warn"
    CRITICAL = "critical"


class Strategy(WireEnum):
    """How a model is spread over GPUs; CPU where there is none."""

    SINGLE_GPU = "SINGLE_GPU"
    TENSOR_PARALLEL = "TENSOR_PARALLEL"
    PIPELINE_PARALLEL = "PIPELINE_PARALLEL"
    HYBRID_TP_PP = "HYBRID_TP_PP"
    CPU = "CPU"

    @classmethod
    def _aliases(cls) -> dict[str, str]:
        return {
            "none": "SINGLE_GPU",
            "tp": "TENSOR_PARALLEL",
            "pp": "PIPELINE_PARALLEL",
            "hybrid": "HYBRID_TP_PP",
        }


class EngineKind(WireEnum):
    VLLM = "vllm"
    LLAMA_CPP = "llama_cpp"


class InstanceStatus(WireEnum):
    PLANNED = "planned"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


_FINAL_WORK = frozenset({"completed", "failed", "cancelled"})


class WorkStatus(WireEnum):
    PENDING = "pending"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return (
            self._value_ in _FINAL_WORK
        )  # asked for every record: a member's lookup costs ten times as much


class BenchmarkStatus(WireEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (BenchmarkStatus.QUEUED, BenchmarkStatus.RUNNING)
