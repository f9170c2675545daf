"""Settings of the benchmark runner."""

from pathlib import Path

from pydantic import Field

from benchmark_runner.engine_client import Patience
from benchmark_runner.summary import Slo
from compute_common.settings import env
from compute_common.shell import ServiceSettings


class Settings(ServiceSettings):
    """The shared settings and this service's own."""

    output_dir: Path = Field(
        Path("/data/benchmarks"),
        validation_alias=env("BENCHMARK_OUTPUT_DIR"),
        description="Where each run is kept as a JSON file",
    )
    endpoint_allow: str = Field(
        "",
        validation_alias=env("BENCHMARK_ENDPOINT_ALLOW"),
        description="Hosts (host or host:port, separated by commas) beside loopback and registered instances",
    )
    queue_limit: int = Field(
        16,
        ge=1,
        validation_alias=env("BENCHMARK_QUEUE_LIMIT"),
        description="Runs that may wait; one runs at a time",
    )
    idle_seconds: float = Field(
        60.0,
        gt=0,
        validation_alias=env("BENCHMARK_IDLE_TIMEOUT_SECONDS"),
        description="Longest silence of a stream, the first token included",
    )
    request_seconds: float = Field(
        600.0,
        gt=0,
        validation_alias=env("BENCHMARK_REQUEST_TIMEOUT_SECONDS"),
        description="Longest single request",
    )
    start_seconds: float = Field(
        900.0,
        gt=0,
        validation_alias=env("BENCHMARK_START_TIMEOUT_SECONDS"),
        description="How long a temporary instance may take to become ready",
    )
    slo_ttft_ms: float = Field(
        2000.0,
        gt=0,
        validation_alias=env("BENCHMARK_SLO_TTFT_MS"),
        description="Goodput: time to first token",
    )
    slo_tpot_ms: float = Field(
        100.0,
        gt=0,
        validation_alias=env("BENCHMARK_SLO_TPOT_MS"),
        description="Goodput: time per output token",
    )

    @property
    def slo(self) -> Slo:
        return Slo(self.slo_ttft_ms, self.slo_tpot_ms)

    @property
    def patience(self) -> Patience:
        return Patience(idle=self.idle_seconds, total=self.request_seconds)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        return frozenset(host.strip().lower() for host in self.endpoint_allow.split(",") if host.strip())
