"""Settings of the GPU orchestrator."""

from pathlib import Path

from pydantic import Field, field_validator

from compute_common.settings import env
from compute_common.shell import ServiceSettings
from gpu_orchestrator.quiet_hours import QuietRange, parse_quiet_hours


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

    quiet_hours: str = Field(
        "",
        validation_alias=env("GPU_QUIET_HOURS"),
        description="Daily hours, local time, in which this host is its owner's: 18:00-23:00,06:30-08:00",
    )

    @field_validator("quiet_hours")
    @classmethod
    def _ranges(cls, value: str) -> str:
        parse_quiet_hours(value)
        return value

    @property
    def quiet_ranges(self) -> tuple[QuietRange, ...]:
        return parse_quiet_hours(self.quiet_hours)

    @property
    def journal_marker(self) -> Path:
        """Outside the journal's folder, so that a lost folder is noticed, too."""
        return self.compute_home / "gpu-orchestrator.journal-id"

    @property
    def journal_path(self) -> Path:
        return self.compute_home / "gpu-orchestrator" / "ledger.sqlite3"
