"""Plans, deployments and instances on the wire."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from compute_common.enums import EngineKind, InstanceStatus, MemoryLevel, NodeStatus, Strategy
from compute_common.ids import Identifier
from compute_common.schemas.base import JsonObject, Name, Page, Wire
from compute_common.schemas.node import NodeDocument
from compute_common.schemas.node_shapes import nest
from compute_common.times import UtcTime

ModelName = Annotated[str, Field(min_length=1, max_length=256, examples=["meta-llama/Llama-3-70B"])]
Degree = Annotated[int, Field(ge=1, le=1024)]
STATE = ("status", "is_online", "is_draining")
GpuIndices = Annotated[list[Annotated[int, Field(ge=0, le=4096)]], Field(min_length=1, max_length=256)]


class DeployRequest(Wire):
    """A model to run; everything but its name has a default that fits the hardware."""

    model_name: ModelName
    instance_name: Identifier | None = None
    auto_start: bool = True
    model_path: Name | None = Field(None, description="Under VLLM_MODEL_PATH")
    max_model_len: Annotated[int, Field(ge=1, le=1 << 28)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1, le=65_536)] | None = None
    max_num_batched_tokens: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    quantization: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    dtype: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    kv_cache_dtype: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = None
    enforce_eager: bool | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    node_id: Identifier | None = None
    gpu_indices: GpuIndices | None = Field(None, description="Only GPUs of these indices, on any host")
    strategy: Strategy | None = None
    tensor_parallel_size: Degree | None = None
    pipeline_parallel_size: Degree | None = None
    replicas: Annotated[int, Field(ge=1, le=256)] | None = None
    engine: EngineKind | None = None
    engine_version: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._+-]+$")] | None = None
    distributed_executor_backend: Literal["mp", "ray"] | None = Field(
        None, description="What joins hosts: vLLM's own ranks (mp), or Ray, which is rendered, not started"
    )
    idle_timeout_seconds: Annotated[float, Field(ge=0, le=30 * 86_400)] | None = None
    dry_run: bool = False
    owner: Name | None = None
    request_id: Name | None = None

    @field_validator("model_name")
    @classmethod
    def _no_traversal(cls, value: str) -> str:
        parts = value.split("/")
        if value.startswith(("/", "-")) or ".." in parts or not value.isprintable() or "\\" in value:
            raise ValueError("must be a model's name such as 'meta-llama/Llama-3-70B', not a path")
        return value


class InventoryNode(NodeDocument):
    """A host of a what-if question: a node's own document, or the registry's answer with the state in it."""

    status: NodeStatus | None = None
    is_online: bool | None = None
    is_draining: bool | None = None
    memory_level: MemoryLevel | None = None
    local_models: Annotated[list[Name], Field(max_length=10_000)] = Field(
        [], description="Models whose files are whole there"
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_either_shape(cls, data: Any) -> Any:
        """What the registry computes is dropped from an announcement; here its state counts."""
        if not isinstance(data, dict):
            return data
        return nest(data) | {name: data[name] for name in STATE if data.get(name) is not None}


class PlanRequest(DeployRequest):
    """A what-if question: the same as a deployment, nothing is started."""

    inventory: Annotated[list[InventoryNode], Field(max_length=100_000)] | None = None
    config: JsonObject | None = Field(
        None, alias="model_config", description="The model's config.json, inline"
    )
    weight_bytes: Annotated[int, Field(gt=0, le=1 << 60)] | None = None


class Placement(Wire):
    node_id: str
    gpu_indices: list[int]
    reserved_mb: int = Field(description="MiB per GPU, or of host RAM where gpu_indices is empty")


class MemoryEstimate(Wire):
    """Of the fullest rank, MiB."""

    weights_mb: int
    kv_cache_mb: int
    activations_mb: int
    overhead_mb: int
    total_mb: int
    kv_cache_tokens: int
    source: str


class Endpoints(Wire):
    api: str | None = None
    metrics: str | None = None
    health: str | None = None


class StartProgress(Wire):
    phase: str
    percent: float | None = None
    bytes: int | None = None


class RejectedLayout(Wire):
    layout: str
    reason: str


class DeployAnswer(Wire):
    instance_name: str
    instance_id: str
    model_name: str
    status: InstanceStatus
    engine: EngineKind
    strategy: Strategy
    tensor_parallel_size: int
    pipeline_parallel_size: int
    placement: list[Placement]
    memory: MemoryEstimate
    config: JsonObject = {}
    docker_compose: JsonObject = {}
    command: list[str] = []
    endpoints: Endpoints = Endpoints()
    tensorzero_url: str | None = None
    explanation: str
    request_id: str | None = None


class Instance(DeployAnswer):
    served_names: list[str] = Field(description="Any of these as `model` reaches it")
    node_id: str | None = None
    epoch: int = 0
    owner: str | None = None
    attached: bool = False
    created_at: UtcTime
    ready_at: UtcTime | None = None
    restarts: int = 0
    last_error: str | None = Field(None, description="Stays when the instance is ready again: see `status`")
    last_error_at: UtcTime | None = None
    progress: StartProgress | None = None
    idle_seconds: float | None = None
    idle_timeout_seconds: float | None = Field(None, description="Unloaded when nobody asked for so long")
    wakeable: bool = Field(False, description="Stopped because idle: the next request starts it again")
    stop_reason: str | None = None
    replica_of: str | None = Field(None, description="The deployment whose further replica this is")


class InstanceList(Page):
    instances: list[Instance]


class StopAnswer(Wire):
    status: InstanceStatus = InstanceStatus.STOPPED
    instance_name: str
    instance_id: str


class InstanceEvent(Wire):
    """`compute.vllm.instance.v1`: an instance changed, on which node, answering to which names."""

    event: str = Field(description="the new status, or `removed`")
    node_id: str
    instance: Instance
    timestamp: UtcTime
    v: int = 1


class NodeInstances(Wire):
    """Answer of `compute.vllm.status.v1.<node_id>`."""

    node_id: str
    instances: list[Instance]
    local_models: list[str] | None = Field(None, description="Models whose files are whole on the host")
    engines: list[EngineKind] | None = Field(None, description="Engines that start there")


class PlanAnswer(Wire):
    fits: bool
    plan: DeployAnswer | None = None
    explanation: str
    shortfall: JsonObject | None = None
    alternatives: list[JsonObject] = []
    rejected: list[RejectedLayout] = []


class AttachRequest(Wire):
    endpoint: Annotated[str, Field(max_length=512, pattern=r"^https?://[^\s]+$")]
    model_name: ModelName | None = Field(None, description="Without it every model that the server lists")
    node_id: Identifier | None = None
    instance_name: Identifier | None = None
