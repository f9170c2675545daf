"""Settings of the Docker proxy: what it grants. The orchestrator on its other side reads the same names."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from compute_common.engine_containers import Template
from compute_common.engine_images import LLAMA_IMAGE, VLLM_IMAGE, images_of
from compute_common.settings import env


class ProxySettings(BaseSettings):
    """Nothing here can be changed by a request."""

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    compute_home: Path = Field(
        Path(".compute"), validation_alias=env("COMPUTE_HOME"), description="Where all state lives"
    )
    docker_proxy_socket: Path | None = Field(
        None,
        validation_alias=env("DOCKER_PROXY_SOCKET"),
        description="Unix socket of the Docker proxy; default $COMPUTE_HOME/docker-proxy.sock",
    )
    docker_proxy_group: int | None = Field(
        None,
        ge=0,
        validation_alias=env("DOCKER_PROXY_GROUP"),
        description="Group id that may use the proxy's socket beside its owner",
    )
    docker_socket: Path = Field(
        Path("/var/run/docker.sock"),
        validation_alias=env("DOCKER_SOCKET"),
        description="Docker's own socket, which only the proxy opens",
    )
    model_host_path: Path | None = Field(
        None,
        validation_alias=env("VLLM_MODEL_HOST_PATH", "VLLM_MODEL_PATH"),
        description="The host's folder with models; default $COMPUTE_HOME/models",
    )
    vllm_docker_image: str = Field(
        VLLM_IMAGE,
        validation_alias=env("VLLM_DOCKER_IMAGE"),
        description="The image that vLLM may be",
    )
    llama_docker_image: str = Field(
        LLAMA_IMAGE,
        validation_alias=env("LLAMA_DOCKER_IMAGE"),
        description="The image that llama.cpp may be",
    )
    engine_bind: str = Field(
        "127.0.0.1", validation_alias=env("ENGINE_BIND"), description="Where engines may be published"
    )
    engine_ports: str = Field(
        "18000-18099",
        pattern=r"^\d{1,5}(-\d{1,5})?$",
        validation_alias=env("ENGINE_PORTS"),
        description="At which ports",
    )
    engine_docker_network: str = Field(
        "",
        validation_alias=env("ENGINE_DOCKER_NETWORK"),
        description="The network they join; empty: published",
    )
    ends_engines: bool = Field(
        False,
        validation_alias=env("DOCKER_PROXY_ENDS_ENGINES"),
        description="Engines end with the proxy, so that `docker compose down` leaves none",
    )
    allow_host_network: bool = Field(
        False,
        validation_alias=env("COMPUTE_ALLOW_HOST_NETWORK"),
        description="Containers of layouts over several hosts may use the host's network",
    )

    @field_validator("engine_docker_network")
    @classmethod
    def _a_network_of_its_own(cls, value: str) -> str:
        if value in ("host", "none", "bridge", "default") or ":" in value:
            raise ValueError("ENGINE_DOCKER_NETWORK must be a network of its own")
        return value

    @property
    def listen(self) -> Path:
        return self.docker_proxy_socket or self.compute_home / "docker-proxy.sock"

    @property
    def models(self) -> str:
        """The one folder of the host that containers see."""
        return str((self.model_host_path or self.compute_home / "models").absolute())

    @property
    def images(self) -> dict[Template, str]:
        return images_of(self.vllm_docker_image, self.llama_docker_image)

    @property
    def ports(self) -> range:
        first, _, last = self.engine_ports.partition("-")
        return range(int(first), int(last or first) + 1)
