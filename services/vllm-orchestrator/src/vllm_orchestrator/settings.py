"""Settings of the vLLM orchestrator."""

import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from compute_common.access.engine_settings import EngineHostSettings
from compute_common.engine_images import LLAMA_IMAGE, VLLM_IMAGE
from compute_common.settings import env, in_container
from compute_common.shell import ServiceSettings


class Settings(EngineHostSettings, ServiceSettings):
    """Where models and engines are, and how engines are run."""

    vllm_model_path: Path | None = Field(
        None,
        validation_alias=env("VLLM_MODEL_PATH"),
        description="Model folders and .gguf files; /models in containers, else $COMPUTE_HOME/models",
    )
    vllm_runtime: Literal["auto", "process", "docker"] = Field(
        "auto",
        validation_alias=env("VLLM_RUNTIME"),
        description="auto: by a binary of this host, else in containers where the Docker proxy answers",
    )
    vllm_docker_image: str = Field(
        VLLM_IMAGE,
        validation_alias=env("VLLM_DOCKER_IMAGE"),
        description="vLLM's image, in containers and compose files; its CPU and ROCm builds follow the tag",
    )
    llama_server_bin: Path | None = Field(
        None,
        validation_alias=env("LLAMA_SERVER_BIN"),
        description="A llama-server of yours, before PATH and the wheel",
    )
    llama_docker_image: str = Field(
        LLAMA_IMAGE,
        validation_alias=env("LLAMA_DOCKER_IMAGE"),
        description="llama.cpp's image, in containers and generated compose files",
    )
    docker_proxy_socket: Path | None = Field(
        None,
        validation_alias=env("DOCKER_PROXY_SOCKET"),
        description="Unix socket of the Docker proxy; default $COMPUTE_HOME/docker-proxy.sock",
    )
    engine_docker_network: str = Field(
        "",
        validation_alias=env("ENGINE_DOCKER_NETWORK"),
        description="Engines in containers join it and publish nothing; empty: published at ENGINE_BIND",
    )
    model_host_path: Path | None = Field(
        None,
        validation_alias=env("VLLM_MODEL_HOST_PATH"),
        description="In containers: the host's folder with models, mounted read-only as VLLM_MODEL_PATH",
    )
    engine_bind: str = Field(
        "127.0.0.1", validation_alias=env("ENGINE_BIND"), description="Address engines listen on"
    )
    engine_ports: str = Field(
        "18000-18099", validation_alias=env("ENGINE_PORTS"), description="Ports engines may take"
    )
    engine_start_seconds: float = Field(
        600,
        gt=0,
        validation_alias=env("ENGINE_START_SECONDS"),
        description="An engine not ready by then is stopped and failed",
    )
    engine_stop_seconds: float = Field(
        10, gt=0, validation_alias=env("ENGINE_STOP_SECONDS"), description="SIGTERM, then SIGKILL after this"
    )
    engine_drain_seconds: float = Field(
        20,
        ge=0,
        validation_alias=env("ENGINE_DRAIN_SECONDS"),
        description="How long an engine that is stopped may finish what is under way",
    )
    engine_restarts: int = Field(
        3,
        ge=0,
        validation_alias=env("ENGINE_RESTARTS"),
        description="Crashes within ten minutes after which an instance is failed",
    )
    hf_endpoint: str = Field(
        "https://huggingface.co",
        validation_alias=env("HF_ENDPOINT"),
        pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$",
        description="Where models come from that no node has; a mirror of the Hub works too",
    )
    hf_token: SecretStr | None = Field(
        None, validation_alias=env("HF_TOKEN"), description="For gated models of the Hub; never logged"
    )
    instance_takeover_seconds: float = Field(
        30,
        gt=0,
        validation_alias=env("INSTANCE_TAKEOVER_SECONDS"),
        description="A host lost for so long loses its instances to others, unless they name it",
    )
    tensorzero_config_dir: Path | None = Field(
        None,
        validation_alias=env("TENSORZERO_CONFIG_DIR"),
        description="Ready models are kept there as TOML for a TensorZero gateway; empty = none",
    )
    tensorzero_reload_command: str = Field(
        "",
        validation_alias=env("TENSORZERO_RELOAD_COMMAND"),
        description="Run after a change there, without a shell; TensorZero reads its files at start only",
    )
    tensorzero_url: str = Field(
        "",
        validation_alias=env("TENSORZERO_URL", "TENSORZERO_BASE_URL"),
        description="Its gateway: told in answers, and benchmark results become its feedback",
    )
    instance_repeat_seconds: float = Field(
        15,
        gt=0,
        le=60,
        validation_alias=env("INSTANCE_REPEAT_SECONDS"),
        description="How often events are repeated",
    )

    @field_validator("tensorzero_reload_command")
    @classmethod
    def _words(cls, value: str) -> str:
        shlex.split(value)  # ValueError on a quotation that does not end
        return value

    @field_validator("engine_ports")
    @classmethod
    def _range(cls, value: str) -> str:
        first, last = _ports(value)
        if not 0 < first <= last <= 65_535:
            raise ValueError("ENGINE_PORTS must be a range such as 18000-18099")
        return value

    @property
    def model_root(self) -> Path:
        """The folder that holds all models; nothing outside is ever loaded by path."""
        if self.vllm_model_path is not None:
            return self.vllm_model_path
        return Path("/models") if in_container() else self.compute_home / "models"

    @property
    def models_of_host(self) -> str:
        """The folder of models as the Docker Engine knows it."""
        return str((self.model_host_path or self.model_root).absolute())

    @property
    def docker_proxy(self) -> Path:
        return self.docker_proxy_socket or self.compute_home / "docker-proxy.sock"

    @property
    def own_host(self) -> str:
        """Where this host itself reaches its engines."""
        return "127.0.0.1" if self.engine_bind in ("0.0.0.0", "") else self.engine_bind  # noqa: S104

    @property
    def port_range(self) -> range:
        first, last = _ports(self.engine_ports)
        return range(first, last + 1)

    @property
    def advertise_host(self) -> str:
        return self.engine_advertise_host or self.engine_bind


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    try:
        return int(first), int(last or first)
    except ValueError as error:
        raise ValueError("ENGINE_PORTS must be a range such as 18000-18099") from error
