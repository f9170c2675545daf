"""Nodes on the wire: the document a node announces, its heartbeat, the answer, the query filter."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from compute_common.enums import MemoryLevel, NodeStatus, Platform, Tier
from compute_common.ids import Identifier
from compute_common.schemas.base import Count, JsonObject, Labels, Mib, Name, Page, Ratio, Wire
from compute_common.schemas.node_shapes import nest
from compute_common.times import UtcTime

Names = Annotated[list[Name], Field(max_length=1024)]


class Cpu(Wire):
    cores: Count | None = Field(None, description="Physical cores this node may use")
    threads: Count | None = Field(None, description="Logical processors this node may use")
    model_name: Name | None = None
    frequency_mhz: float | None = Field(None, ge=0, le=1e6)


class Memory(Wire):
    total_mb: Mib | None = Field(None, description="MiB this node may use (container limits applied)")
    available_mb: Mib | None = None
    swap_total_mb: Mib | None = None
    swap_free_mb: Mib | None = None


class GpuLink(Wire):
    """A fast link from one GPU to another of the same node."""

    model_config = ConfigDict(extra="allow")
    to: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        None, description="Index of the GPU at the other end"
    )
    kind: Name = Field("nvlink", description="nvlink, nvswitch, xgmi, ...")


class GpuSlice(Wire):
    """A schedulable part of a GPU (MIG). Slices do not join: one engine rank has one of them."""

    model_config = ConfigDict(extra="allow")
    uuid: Name | None = Field(None, description="What CUDA_VISIBLE_DEVICES takes")
    name: Name = "slice"
    vram_mb: Mib | None = None
    vram_used_mb: Mib | None = None
    schedulable: bool = True


class Gpu(Wire):
    model_config = ConfigDict(extra="allow")
    index: Annotated[int, Field(ge=0, le=4096)] = 0
    uuid: Name | None = None
    name: Name = "GPU"
    vram_mb: Mib | None = Field(None, description="MiB of memory in total")
    vram_used_mb: Mib | None = None
    compute_capability: Name | None = Field(None, examples=["8.9", "gfx942"])
    vendor: Name | None = None
    bandwidth_gb_s: float | None = Field(None, ge=0, le=1e6, description="Memory bandwidth, GB/s")
    links: Annotated[list[GpuLink], Field(max_length=4096)] = []
    unified: bool = Field(False, description="Shares the system's memory")
    driver_version: Name | None = None
    schedulable: bool = Field(True, description="False for a card in MIG mode: its slices are")
    slices: Annotated[list[GpuSlice], Field(max_length=64)] = []


class NodeDocument(Wire):
    """What a node says of itself, whole or partial; nested, flat or mixed spelling.

    Descriptive fields the contract does not name are kept and returned as they came.
    """

    model_config = ConfigDict(extra="allow")

    node_id: Identifier
    hostname: Name = Field(min_length=1)
    declared_tier: Tier | None = Field(None, description="The tier the node itself claims (inbound `tier`)")
    ipv4: Name | None = None
    ipv6: Name | None = None
    boot_id: Name | None = None
    timestamp: UtcTime | None = None
    cpu: Cpu | None = None
    memory: Memory | None = None
    gpus: Annotated[list[Gpu], Field(max_length=4096)] | None = None
    platform: Platform | None = None
    network: JsonObject | None = None
    labels: Labels | None = None
    supported_models: Names | None = Field(None, description="Names under which ready instances here answer")
    work_types: Names | None = Field(None, description="Only these are assigned here; absent = any")
    slots: Annotated[int, Field(ge=0, le=100_000)] | None = Field(None, description="Items taken at a time")
    heartbeat_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    endpoints: JsonObject | None = None
    fenced: bool | None = Field(None, description="Its completions always carry node_id and attempt")
    own_subjects: bool | None = Field(
        None, description="It speaks on `compute.node.<id>.…` and is assigned work there; not settable"
    )
    compute_version: Name | None = Field(None, description="Of the suite that runs there", examples=["0.1.0"])
    managed: bool | None = Field(
        None, description="A host of this suite: takes only the work types its node program announces"
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_either_shape(cls, data: Any) -> Any:
        return nest(data) if isinstance(data, dict) else data


class Heartbeat(Wire):
    node_id: Identifier
    timestamp: UtcTime | None = None
    boot_id: Name | None = None
    cpu_utilization: Ratio | None = None
    memory_utilization: Ratio | None = None
    gpu_utilization: Annotated[list[Ratio], Field(max_length=4096)] | None = None
    active_jobs: Count | None = None
    status: NodeStatus | None = None
    memory_level: MemoryLevel | None = None
    available_cpu_slots: Count | None = None
    available_gpu_slots: Count | None = None
    available_memory_mb: Mib | None = None
    available_vram_mb: Mib | None = None


class Measured(Wire):
    """What a benchmark measured on a node."""

    model: Name
    engine: Name | None = None
    batch_size: Count
    output_tokens_per_s: float = Field(ge=0)
    measured_at: UtcTime


class Node(Wire):
    """A node as the registry answers it: nested hardware, flat summary, state."""

    model_config = ConfigDict(extra="allow")

    node_id: str
    hostname: str
    tier: Tier
    declared_tier: Tier | None = None
    status: NodeStatus
    is_online: bool
    is_draining: bool
    registered_at: UtcTime
    last_heartbeat: UtcTime | None = None
    cpu: Cpu
    memory: Memory
    gpus: list[Gpu]
    platform: Platform | None = None
    ipv4: str | None = None
    network: JsonObject = {}
    labels: dict[str, str] = {}
    supported_models: list[str] | None = None
    work_types: list[str] | None = None
    slots: int | None = None
    endpoints: JsonObject = {}
    heartbeat_seconds: float
    boot_id: str | None = None
    managed: bool | None = None
    compute_version: str | None = None
    fenced: bool | None = None
    own_subjects: bool | None = None
    cpu_cores: int | None = None
    cpu_threads: int | None = None
    cpu_model: str | None = None
    memory_mb: int | None = None
    gpu_count: int
    gpu_vram_mb: int = Field(description="Sum over the GPUs, MiB")
    gpu_vram_gb: float = Field(description="Sum over the GPUs, GiB")
    gpu_models: list[str]
    available_cpu_slots: int | None = None
    available_gpu_slots: int | None = None
    available_memory_mb: int | None = None
    available_vram_mb: int | None = None
    cpu_utilization: float | None = None
    memory_utilization: float | None = None
    gpu_utilization: list[float] = []
    utilization_score: float = Field(description="0 idle .. 1 full: the fullest of CPU, memory and GPUs")
    active_jobs: int = 0
    memory_level: MemoryLevel = MemoryLevel.OK
    measured: list[Measured] = []
    warnings: list[str] = []
    capabilities: JsonObject | None = Field(None, description="The same in flat form (single-node answers)")


class RegisterAnswer(Wire):
    status: str = "registered"
    node_id: str
    registered_at: UtcTime
    tier: Tier
    heartbeat_seconds: float
    offline_after_seconds: float
    warnings: list[str] = []


class HeartbeatAnswer(Wire):
    status: str = "received"
    node_id: str
    known: bool


class NodeQuery(Wire):
    """A filter over nodes. `min_*_gb` are sizes by label: met from 93 % of them."""

    requires_gpu: bool = False
    tier: Tier | None = None
    min_tier: Tier | None = None
    min_vram_gb: float | None = Field(None, ge=0, le=1e6, description="Of the largest GPU")
    min_total_vram_gb: float | None = Field(None, ge=0, le=1e6)
    min_gpu_count: Count | None = None
    min_cpu: Count | None = None
    min_ram_mb: Mib | None = None
    model: Name | None = None
    work_type: Name | None = None
    platform: Platform | None = None
    labels: Labels | None = None
    status: NodeStatus | None = None
    online_only: bool = True
    include_draining: bool = False
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None
    cursor: Name | None = Field(None, description="Answers come in the order of node ids, after this one")
    query_id: Name | None = None


class NodeList(Page):
    nodes: list[Node]
    timestamp: UtcTime


class NodesAnswer(NodeList):
    query_id: str | None = None


class DrainAnswer(Wire):
    status: NodeStatus
    node_id: str


class NodeDrain(Wire):
    node_id: Identifier
    drain: bool


class NodeRemove(Wire):
    node_id: Identifier


class Reannounce(Wire):
    """Asks a node, or all of them (`*`), to announce again, each at a moment of its own within the spread."""

    node_id: Name
    spread_seconds: float = Field(
        1.0, ge=0, le=60, description="The registry asks for more when many are asked"
    )

    def concerns(self, node_id: str) -> bool:
        return self.node_id in (node_id, "*")


class NodeEvent(Wire):
    event: str = Field(description="joined, updated, draining, offline, removed")
    node_id: str
    node: Node | None = None
    timestamp: UtcTime
    v: int = 1


class NodeStats(Wire):
    total_nodes: int
    online_nodes: int
    offline_nodes: int
    by_tier: dict[str, int]
    versions: dict[str, int] = Field({}, description="Of the suite, and how many online nodes run each")
    version_warning: str | None = Field(None, description="Set while hosts of several versions are online")
    timestamp: UtcTime
