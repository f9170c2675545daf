"""Read-only routes of an older GPU service that clients in the field still call."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from compute_common.problems import Problem
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.gpu import GpuStates
from compute_common.shell.routing import new_router
from gpu_orchestrator.local import LocalHost


class GpuProcesses(Wire):
    processes: list[JsonObject] = Field(description="pid, gpu_index and used_mb of what runs on the GPUs")
    count: int


class LoadedModels(Wire):
    models: list[JsonObject] = Field(description="Models that hold a reservation here")
    count: int


class MetricsSummary(Wire):
    gpu_count: int
    total_vram_mb: int
    used_vram_mb: int
    reserved_vram_mb: int
    available_vram_mb: int
    utilization: float | None = Field(None, description="Mean over the GPUs that report it, 0-1")
    timestamp: str


def older_router(host: LocalHost) -> APIRouter:
    r = new_router("older clients")

    @r.get("/api/gpu/status", response_model=GpuStates)
    async def status() -> GpuStates:
        """The same as /api/v1/gpu/states."""
        return await host.states()

    @r.get("/api/gpu/processes", response_model=GpuProcesses)
    async def processes() -> GpuProcesses:
        """What runs on the GPUs of this host."""
        found: list[dict[str, Any]] = [
            {"gpu_index": gpu.index, **process}
            for gpu in (await host.states()).gpus
            for process in gpu.processes
        ]
        return GpuProcesses(processes=found, count=len(found))

    @r.get("/api/gpu/models/loaded", response_model=LoadedModels)
    async def loaded() -> LoadedModels:
        """Models that hold a reservation on this host."""
        held = (await host.reservations(1000, None)).reservations
        models = [entry.model_dump(mode="json") for entry in held if entry.model_name is not None]
        return LoadedModels(models=models, count=len(models))

    @r.get("/api/gpu/metrics/summary", response_model=MetricsSummary)
    async def summary() -> MetricsSummary:
        """Sums over the GPUs of this host."""
        return _summary(await host.states())

    @r.post("/api/gpu/models/{verb}", response_model=JsonObject)
    async def load_or_unload(verb: str) -> JsonObject:
        """Not done here: 501 that names the route which does."""
        if verb not in ("load", "unload"):
            raise Problem(404, "not-found", "there is no such route")
        raise Problem(
            501,
            "use-deploy",
            "models are started by POST /api/v1/vllm/deploy and stopped by DELETE "
            "/api/v1/vllm/instances/{instance_name} of the vLLM orchestrator",
        )

    return r


def _summary(states: GpuStates) -> MetricsSummary:
    gpus = [gpu for gpu in states.gpus if gpu.schedulable]  # a card in MIG mode counts as its slices

    def total(pick: str) -> int:
        return sum(int(getattr(gpu, pick)) for gpu in gpus)

    busy = [gpu.utilization for gpu in states.gpus if gpu.utilization is not None]
    return MetricsSummary(
        gpu_count=len(gpus),
        total_vram_mb=total("total_mb"),
        used_vram_mb=total("used_mb"),
        reserved_vram_mb=total("reserved_mb"),
        available_vram_mb=total("available_mb"),
        utilization=sum(busy) / len(busy) if busy else None,
        timestamp=states.model_dump(mode="json")["timestamp"],
    )
