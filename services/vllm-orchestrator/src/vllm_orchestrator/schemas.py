"""Records of this service's own routes, beside the shared ones."""

from typing import Annotated

from pydantic import ConfigDict, Field

from compute_common.ids import Identifier
from compute_common.schemas.base import Name, Page, Wire
from compute_common.schemas.vllm import AttachRequest, DeployRequest, ModelName, Placement


class ModelEntry(Wire):
    """A model that can be named in a deployment."""

    model_name: str
    aliases: list[str] = []
    source: str = Field(description="catalogue, or what was read here")
    local: bool = Field(description="Its files are on this host")
    format: str = Field(description="safetensors or gguf")
    parameters: int | None = None
    weights_mb: int = Field(description="MiB of weights")
    max_model_len: int
    fits: bool | None = Field(None, description="Whether it fits now; only with ?fits=true")
    strategy: str | None = None
    explanation: str | None = None
    context: int | None = Field(None, description="Tokens of context it would run with")
    kv_cache_tokens: int | None = None
    gpus: int | None = Field(None, description="GPUs it would take; 0 = host RAM")
    expected_tokens_per_s: float | None = Field(
        None, description="Of one request: measured, else by memory bandwidth"
    )


class ModelList(Page):
    models: list[ModelEntry]


class StrategyEntry(Wire):
    strategy: str
    description: str
    use_case: str
    aliases: list[str]


class StrategyList(Page):
    strategies: list[StrategyEntry]


class LogTail(Wire):
    instance_name: str
    node_id: str
    lines: list[str]
    next_offset: int = Field(0, description="Ask with it as `log_offset` for what is added later")


class StartOrder(Wire):
    """`compute.vllm.start.v1.<node_id>`: deploy here what another orchestrator planned for this host."""

    deploy: DeployRequest
    avoid: Annotated[list[Placement], Field(max_length=1024)] = []
    among: Annotated[list[Identifier], Field(max_length=64)] = Field(
        [], description="The hosts of a layout over several, this one at its head; empty: this host alone"
    )
    replica_of: Identifier | None = None


class AttachOrder(Wire):
    """`compute.vllm.start.v1.<node_id>` `{attach}`: take in a server that this host reaches."""

    attach: AttachRequest

    def here(self, node_id: str) -> AttachRequest:
        """Never sent on."""
        return self.attach.model_copy(update={"node_id": node_id})


class RankOrder(Wire):
    """`compute.vllm.start.v1.<node_id>` `{rank}`: one host's part of an instance over several hosts."""

    instance_name: Identifier
    epoch: int
    rank: Annotated[int, Field(ge=1, le=1024)]
    arguments: Annotated[list[str], Field(max_length=256)] = Field(
        description="Of `vllm`, without the binary"
    )
    environment: dict[str, str] = {}
    reservation_id: Identifier


class RankRef(Wire):
    """`compute.vllm.{stop,status}.v1.<node_id>` `{rank}`: that part."""

    instance_name: Identifier
    epoch: int


class RankState(Wire):
    instance_name: str
    node_id: str
    alive: bool


class InstanceRef(Wire):
    """`compute.vllm.stop.v1.<node_id>`: stop an instance; with `remove` its record goes too."""

    instance_name: Identifier
    remove: bool = True
    request_id: Name | None = None


class StatusAsk(Wire):
    """`compute.vllm.status.v1.<node_id>`: every instance of the host, or the log of one."""

    instance_name: Identifier | None = None
    log_lines: Annotated[int, Field(ge=0, le=2000)] = 0
    log_offset: Annotated[int, Field(ge=0, le=1 << 40)] | None = None
    equipment_only: bool = Field(False, description="Only `local_models` and `engines`")


class GatewayRequest(Wire):
    """An OpenAI request: `model` is a served name of a ready instance, the rest goes on as it is."""

    model_config = ConfigDict(extra="allow")
    model: ModelName


class GatewayModel(Wire):
    id: str
    object: str = "model"
    created: int
    owned_by: str


class GatewayModels(Wire):
    object: str = "list"
    data: list[GatewayModel]
