"""The flat form of a node, for clients that speak it: `cpu_cores`, `gpu_count`, `memory_mb`, …"""

from collections.abc import Sequence

from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Cpu, Gpu, Memory
from compute_common.units import mib_to_gib


def flat_hardware(cpu: Cpu | None, memory: Memory | None, gpus: Sequence[Gpu]) -> JsonObject:
    """The flat summary; MiB for `_mb`, GiB for `_gb`, GPU memory summed over the GPUs."""
    cpu, memory = cpu or Cpu(), memory or Memory()
    vram = sum(gpu.vram_mb or 0 for gpu in gpus)
    return {
        "cpu_cores": cpu.cores,
        "cpu_threads": cpu.threads,
        "cpu_model": cpu.model_name,
        "cpu_mhz": cpu.frequency_mhz,
        "memory_mb": memory.total_mb,
        "memory_gb": None if memory.total_mb is None else mib_to_gib(memory.total_mb),
        "total_memory_mb": memory.total_mb,
        "gpu_count": len(gpus),
        "gpu_vram_mb": vram,
        "gpu_vram_gb": mib_to_gib(vram),
        "total_gpu_vram_mb": vram,
        "gpu_models": [gpu.name for gpu in gpus],
        "gpu_driver_versions": sorted({gpu.driver_version for gpu in gpus if gpu.driver_version}),
    }
