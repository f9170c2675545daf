"""What this host can do with models, and the limits its containers should have."""

from collections.abc import Sequence

from pydantic import Field

from compute_common.enums import EngineKind, Platform, Tier
from compute_common.schemas.base import Wire
from resource_detector.detection import capability_number, platform_of, tier_of
from resource_detector.findings import GpuFound, Hardware
from resource_detector.recommendations import VLLM_LEAST_CAPABILITY, recommend

GPU_SHARE = 0.85  # of its memory, for weights; the rest is KV cache and the engine's own
RAM_SHARE = 0.60
BYTES_FP16 = 2.0
BYTES_4BIT = 0.6  # 4 bits and their scales
TRAINING_MB = 15_000
INFERENCE_MB = 4_000
CONTAINER_RAM_SHARE = 0.85


class Capabilities(Wire):
    tier: Tier
    tier_reason: str
    platform: Platform
    can_infer_gpu: bool
    can_infer_cpu: bool = True
    can_train: bool
    gpu_count: int
    total_vram_mb: int
    largest_gpu_mb: int
    max_model_params_b: float = Field(description="Billions of parameters at 16 bit, over all GPUs (or RAM)")
    max_model_params_b_4bit: float = Field(description="The same with 4-bit weights")
    engines: list[EngineKind]
    dtype: str
    quantization: list[str]


class ContainerLimits(Wire):
    """For `deploy.resources` of a compose file on this host."""

    cpus: float = Field(description="Whole CPUs less what the system needs")
    memory_mb: int
    memory_reservation_mb: int
    shm_size_mb: int = Field(description="Shared memory for engines that spread over GPUs")
    gpu_indices: list[int]
    notes: list[str] = []


def capabilities(hardware: Hardware) -> Capabilities:
    """Rough but honest: sizes by memory alone; the planner of the vLLM orchestrator counts exactly."""
    tier, reason = tier_of(hardware)
    usable = [gpu for gpu in hardware.gpus if _infers(gpu)]
    vram = sum(gpu.vram_mb or 0 for gpu in hardware.gpus)
    budget_mb = GPU_SHARE * _joint_mb(usable) if usable else RAM_SHARE * hardware.memory.total_mb
    advice = recommend(hardware)
    engines = [EngineKind.LLAMA_CPP]
    return Capabilities(
        tier=tier,
        tier_reason=reason,
        platform=platform_of(hardware),
        can_infer_gpu=bool(usable),
        can_train=any(_trains(gpu) for gpu in hardware.gpus),
        gpu_count=len(hardware.gpus),
        total_vram_mb=vram,
        largest_gpu_mb=max((_largest_mb(gpu) for gpu in hardware.gpus), default=0),
        max_model_params_b=_billions(budget_mb, BYTES_FP16),
        max_model_params_b_4bit=_billions(budget_mb, BYTES_4BIT),
        engines=[EngineKind.VLLM, *engines] if advice.engine is EngineKind.VLLM else engines,
        dtype=advice.dtype,
        quantization=advice.quantization,
    )


def container_limits(hardware: Hardware) -> ContainerLimits:
    """One CPU and 15 % of the memory stay with the system."""
    memory = hardware.memory
    shm = 8192 if len(hardware.gpus) > 1 else 1024
    notes = []
    if memory.total_mb < memory.host_total_mb:
        notes.append(
            f"a control group limits this host's {memory.host_total_mb} MiB to {memory.total_mb} MiB"
        )
    return ContainerLimits(
        cpus=float(max(1, hardware.cpu.threads - 1)),
        memory_mb=int(memory.total_mb * CONTAINER_RAM_SHARE),
        memory_reservation_mb=int(memory.total_mb * CONTAINER_RAM_SHARE / 2),
        shm_size_mb=min(shm, max(64, memory.total_mb // 4)),
        gpu_indices=[gpu.index for gpu in hardware.gpus],
        notes=notes,
    )


def _infers(gpu: GpuFound) -> bool:
    capability = capability_number(gpu)
    runs = gpu.vendor != "nvidia" or capability is None or capability >= VLLM_LEAST_CAPABILITY
    return runs and _largest_mb(gpu) >= INFERENCE_MB


def _trains(gpu: GpuFound) -> bool:
    return _infers(gpu) and not gpu.unified and _largest_mb(gpu) >= TRAINING_MB


def _largest_mb(gpu: GpuFound) -> int:
    """What one process can have of it: the card, or its largest MIG slice."""
    if gpu.mig:
        return max((part.vram_mb or 0 for part in gpu.slices), default=0)
    return gpu.vram_mb or 0


def _joint_mb(usable: Sequence[GpuFound]) -> int:
    """What one model can have: whole cards together, or one slice, for slices do not join."""
    whole = sum(gpu.vram_mb or 0 for gpu in usable if not gpu.mig)
    return max(whole, *(_largest_mb(gpu) for gpu in usable))


def _billions(budget_mb: float, bytes_per_parameter: float) -> float:
    return round(budget_mb * 2**20 / bytes_per_parameter / 1e9, 1)
