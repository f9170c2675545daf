"""A heartbeat's values from the last detection and the load since the last beat."""

from compute_common.enums import MemoryLevel
from compute_common.schemas.node import Heartbeat
from compute_common.times import utc_now
from resource_detector.findings import Hardware


def heartbeat(
    node_id: str,
    hardware: Hardware,
    cpu_utilization: float | None,
    memory_level: MemoryLevel | None = None,
) -> Heartbeat:
    """What this host says every few seconds; unknown values are left out."""
    memory = hardware.memory
    used = 1 - memory.available_mb / memory.total_mb if memory.total_mb else None
    free_vram = [
        max(0, gpu.vram_mb - gpu.vram_used_mb)
        for gpu in hardware.gpus
        if gpu.vram_mb is not None and gpu.vram_used_mb is not None
    ]
    rates = [gpu.utilization for gpu in hardware.gpus]
    return Heartbeat(
        node_id=node_id,
        timestamp=utc_now(),
        boot_id=hardware.host.boot_id,
        cpu_utilization=cpu_utilization,
        memory_utilization=None if used is None else round(min(1.0, max(0.0, used)), 4),
        gpu_utilization=[rate or 0.0 for rate in rates] if any(rate is not None for rate in rates) else None,
        memory_level=memory_level,
        available_memory_mb=memory.available_mb,
        available_vram_mb=sum(free_vram) if free_vram else None,
    )


def cpu_load() -> float | None:
    """CPU utilisation 0..1 since the call before; None where psutil cannot tell."""
    try:
        import psutil  # noqa: PLC0415 - an optional reading

        return round(min(100.0, float(psutil.cpu_percent(None))) / 100, 4)
    except (ImportError, OSError, RuntimeError, ValueError):
        return None
