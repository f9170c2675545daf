"""Settings of the GPU orchestrator."""

from pathlib import Path

from pydantic import Field

from compute_common.settings import env
from compute_common.shell import ServiceSettings


class Settings(ServiceSettings):
    """The shared settings and this service's own."""

    reservation_timeout_seconds: float = Field(
        300.0,
        gt=0,
        le=86_400,
        validation_alias=env("GPU_RESERVATION_TIMEOUT"),
        description="Seconds an unbound reservation lives when the request names none",
    )
    gpu_margin_mb: int = Field(
        256,
        ge=0,
        validation_alias=env("GPU_SAFETY_MARGIN_MB"),
        description="MiB of each GPU that are never promised",
    )
    ram_margin_mb: int = Field(
        512,
        ge=0,
        validation_alias=env("HOST_MEMORY_MARGIN_MB"),
        description="MiB of host RAM that are never promised (at most a twentieth of it)",
    )
    poll_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        validation_alias=env("GPU_POLL_SECONDS"),
        description="Seconds between two readings of memory",
    )

    @property
    def journal_path(self) -> Path:
        return self.compute_home / "gpu-orchestrator" / "ledger.sqlite3"
