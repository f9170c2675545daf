"""Settings of the benchmark runner."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from benchmark_runner.endpoint_keys import Base, named_for, parse
from benchmark_runner.generator.patience import Patience
from benchmark_runner.slo import Slo
from compute_common.access.engine_hosts import EngineHosts
from compute_common.access.engine_settings import EngineHostSettings
from compute_common.settings import env, in_container
from compute_common.shell import ServiceSettings


class Settings(EngineHostSettings, ServiceSettings):
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
    endpoint_keys: SecretStr = Field(
        SecretStr(""),
        validation_alias=env("BENCHMARK_ENDPOINT_KEYS"),
        description="API keys of endpoints, `URL=key` separated by commas; each is sent to its URL only",
    )
    queue_limit: int = Field(
        16,
        ge=1,
        validation_alias=env("BENCHMARK_QUEUE_LIMIT"),
        description="Runs that may wait; one runs at a time",
    )
    keep_runs: int = Field(
        1000,
        ge=1,
        validation_alias=env("BENCHMARK_KEEP_RUNS"),
        description="Ended runs kept; older ones and their files are deleted",
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

    lab_dir: Path | None = Field(
        None,
        validation_alias=env("LLAMA_THROUGHPUT_LAB_DIR"),
        description="A checkout of llama-throughput-lab, for runs with that tool",
    )
    aiperf_bin: str = Field(
        "aiperf", validation_alias=env("AIPERF_BIN"), description="NVIDIA's AIPerf, for runs with that tool"
    )
    nginx_bin: str = Field(
        "nginx", validation_alias=env("NGINX_BIN"), description="What llama-throughput-lab balances with"
    )
    llama_server_bin: Path | None = Field(
        None,
        validation_alias=env("LLAMA_SERVER_BIN"),
        description="A llama-server of yours, before PATH and the wheel",
    )
    vllm_model_path: Path | None = Field(
        None,
        validation_alias=env("VLLM_MODEL_PATH"),
        description="Model folders and .gguf files; /models in containers, else $COMPUTE_HOME/models",
    )

    tensorzero_url: str = Field(
        "",
        validation_alias=env("TENSORZERO_URL", "TENSORZERO_BASE_URL"),
        description="Its gateway: told in answers, and benchmark results become its feedback",
    )

    supabase_url: str | None = Field(
        None,
        validation_alias=env("SUPABASE_URL"),
        description="With the key: nodes are remembered in this Supabase project, not in JetStream KV",
    )
    supabase_service_key: SecretStr | None = Field(
        None,
        validation_alias=env("SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
        description="The project's service_role (or secret) key; never logged",
    )
    supabase_timeout_seconds: float = Field(
        10.0,
        gt=0,
        validation_alias=env("SUPABASE_TIMEOUT_SECONDS"),
        description="Longest single request to Supabase",
    )

    @field_validator("endpoint_keys")
    @classmethod
    def _name_their_urls(cls, value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    @cached_property
    def _keys(self) -> Mapping[Base, str]:
        return parse(self.endpoint_keys.get_secret_value())

    def key_for(self, base_url: str) -> str | None:
        """The API key that was named for this base URL."""
        return named_for(self._keys, base_url)

    @property
    def model_root(self) -> Path:
        default = Path("/models") if in_container() else self.compute_home / "models"
        return Path(os.path.abspath(self.vllm_model_path or default))  # noqa: PTH100  (links stay as they are)

    @property
    def slo(self) -> Slo:
        return Slo(self.slo_ttft_ms, self.slo_tpot_ms)

    @property
    def patience(self) -> Patience:
        return Patience(idle=self.idle_seconds, total=self.request_seconds)

    @property
    def allowed_hosts(self) -> frozenset[str]:
        return frozenset(host.strip().lower() for host in self.endpoint_allow.split(",") if host.strip())

    def engines_at(self, base_url: str) -> EngineHosts:
        """Where an engine may be that is asked at `base_url`: an operator's endpoint may be anywhere."""
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        address = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        named = bool({host, address} & self.allowed_hosts)
        return self.reachable_engines.also(host) if named else self.reachable_engines
