"""One GPU as it is announced: the common record and what only the detector knows."""

from dataclasses import asdict
from typing import Any

from pydantic import Field

from compute_common.schemas.base import Name
from compute_common.schemas.node import Gpu, GpuLink, GpuSlice
from resource_detector.findings import GpuFound, SliceFound

_VOLATILE = {"vram_used_mb", "utilization", "temperature_c", "power_w", "power_limit_w"}


class DetectedGpu(Gpu):
    mig: bool = False
    coherent: bool = Field(False, description="Can use the CPU's memory beside its own (GH200)")
    ecc: bool | None = None
    pci_bus_id: Name | None = None
    pcie_generation: int | None = Field(None, description="The most that card and slot can do")
    pcie_width: int | None = None
    utilization: float | None = Field(None, description="0–1")
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None


def gpu_of(gpu: GpuFound) -> DetectedGpu:
    return DetectedGpu(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        vram_mb=gpu.vram_mb,
        vram_used_mb=gpu.vram_used_mb,
        compute_capability=gpu.compute_capability,
        vendor=gpu.vendor,
        bandwidth_gb_s=gpu.bandwidth_gb_s,
        links=[
            GpuLink.model_validate({"to": link.to, "kind": link.kind, "lanes": link.lanes})
            for link in gpu.links
        ],
        unified=gpu.unified,
        driver_version=gpu.driver_version,
        schedulable=not gpu.mig,
        mig=gpu.mig,
        slices=[_slice(part) for part in gpu.slices],
        coherent=gpu.coherent,
        ecc=gpu.ecc,
        pci_bus_id=gpu.pci_bus_id,
        pcie_generation=gpu.pcie_generation,
        pcie_width=gpu.pcie_width,
        utilization=gpu.utilization,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        power_limit_w=gpu.power_limit_w,
    )


def lasting(gpu: dict[str, Any]) -> dict[str, Any]:
    """A GPU of the document without what changes by itself."""
    kept = {key: value for key, value in gpu.items() if key not in _VOLATILE}
    kept["slices"] = [
        {key: value for key, value in part.items() if key not in _VOLATILE} for part in gpu.get("slices", [])
    ]
    return kept


def _slice(part: SliceFound) -> GpuSlice:
    return GpuSlice.model_validate(asdict(part))
