"""A GPU orchestrator on given readings of memory, its journal in a folder of the test's own."""

from dataclasses import dataclass, field
from pathlib import Path

from gpu_orchestrator.devices import GpuReading, RamReading
from gpu_orchestrator.observer import Observer
from gpu_orchestrator.service import GpuOrchestrator
from gpu_orchestrator.settings import Settings


@dataclass
class Readings:
    """What the drivers would say; a test changes it under the ledger's feet."""

    ram: RamReading = field(default_factory=lambda: RamReading(total_mb=16_384, available_mb=12_000))
    gpus: tuple[GpuReading, ...] = ()

    def observer(self) -> Observer:
        return Observer((256, 512), ram=lambda: self.ram, gpus=lambda: self.gpus)


def gpu(index: int, used_mb: int = 0, **fields: object) -> GpuReading:
    return GpuReading(index, f"GPU-{index}", "Test GPU", 24_564, used_mb, **fields)  # type: ignore[arg-type]


def two_gpus(*used_mb: int) -> Readings:
    return Readings(gpus=tuple(gpu(index, used) for index, used in enumerate(used_mb or (0, 0))))


def orchestrator(
    home: Path,
    nats_url: str = "nats://127.0.0.1:1",
    readings: Readings | None = None,
    node_id: str = "host-a",
) -> GpuOrchestrator:
    """On this host's real memory when no readings are given."""
    settings = Settings.model_validate(
        {
            "NATS_URL": nats_url,
            "NODE_ID": node_id,
            "COMPUTE_HOME": home,
            "NATS_WAIT_SECONDS": 5 if "127.0.0.1:1" not in nats_url[-11:] else 0.01,
            "GPU_POLL_SECONDS": 0.1,
        }
    )
    return GpuOrchestrator(settings, readings.observer() if readings else None)
