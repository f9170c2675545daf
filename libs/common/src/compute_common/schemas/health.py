"""What /healthz answers."""

from typing import Literal

from pydantic import Field

from compute_common.schemas.base import Wire
from compute_common.times import UtcTime


class CheckResult(Wire):
    ok: bool
    required: bool = Field(description="Without it the service cannot do its job")
    detail: str | None = None


class Health(Wire):
    status: Literal["healthy", "degraded", "unhealthy"]
    service: str
    version: str
    uptime_seconds: float
    timestamp: UtcTime
    checks: dict[str, CheckResult]
