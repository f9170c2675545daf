"""The overview on the wire."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from compute_common.enums import InstanceStatus, MemoryLevel, NodeStatus, Tier
from compute_common.schemas.base import Count, JsonObject, Mib, Ratio, Text, Wire
from compute_common.schemas.node import NodeStats
from compute_common.times import UtcTime

MOST_NODES = 1000
MOST_GPUS_OF_A_NODE = 32
MOST_INSTANCES = 1000
MOST_WARNINGS = 100
LONGEST_NAME = 128
LONGEST_TEXT = 400


class Voice(StrEnum):
    """Whether a neighbour was heard."""

    ANSWERS = "answers"
    SILENT = "silent"  # it is there, or should be, and did not answer in time
    ABSENT = "absent"  # nobody serves that subject
    UNASKED = "unasked"  # not yet, or it has no such program


class OverviewGpu(Wire):
    """As its host's ledger tells it; without one what the node announced."""

    index: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    name: Text = "GPU"
    total_mb: Mib | None = None
    used_mb: Mib | None = Field(None, description="null: nobody tells")
    reserved_mb: Mib | None = None
    foreign_mb: Mib | None = Field(None, description="In use by programs nobody registered")
    utilization: Ratio | None = None
    temperature_c: Annotated[float, Field(ge=-300, le=1000)] | None = None
    health: Text = "ok"
    cordoned: bool = False


class OverviewNode(Wire):
    node_id: str
    hostname: str
    tier: Tier
    status: NodeStatus
    silent_since: UtcTime | None = Field(None, description="Of an offline node: when it was last heard")
    cpu_utilization: float | None = None
    memory_total_mb: int | None = None
    memory_available_mb: int | None = None
    memory_level: MemoryLevel
    active_jobs: int = 0
    gpu_count: int
    gpus: list[OverviewGpu] = Field(description=f"At most {MOST_GPUS_OF_A_NODE}")
    ledger: Voice = Field(description="Whether its GPU orchestrator answers")
    warnings: list[str] = []


class OverviewInstance(Wire):
    node_id: str
    instance_name: str
    model_name: str
    status: InstanceStatus
    detail: str | None = Field(None, description="How far its start is, or why it failed")


class OverviewGpus(Wire):
    count: int = Field(description="GPUs of online nodes")
    total_mb: int
    available_mb: int = Field(description="As last reported by their nodes")


class MemoryAlert(Wire):
    """Memory of a node that runs out, or nearly has."""

    node_id: str
    gpu_index: int | None = Field(None, description="null: RAM, or not told which")
    level: MemoryLevel = Field(description="warn or critical")
    available_mb: Mib | None = None
    predicted_oom_seconds: float | None = Field(None, description="From `since` on, at the rate of then")
    since: UtcTime | None = None


class WorkRate(Wire):
    """How fast work comes and goes, over the last minute at most."""

    submitted_per_min: float
    completed_per_min: float
    failed_per_min: float
    over_seconds: float


class Neighbour(Wire):
    """A service that this document was gathered from."""

    name: str
    voice: Voice
    asked: Count = Field(1, description="How many of them were asked")
    answered: Count = 0
    silent: list[str] = Field([], description="Nodes whose program did not answer, at most 20")
    detail: str | None = None


class OverviewParts(Wire):
    """All but the nodes one by one."""

    nodes: NodeStats
    gpus: OverviewGpus
    instances: list[OverviewInstance]
    queue: JsonObject | None = Field(None, description="Statistics of work marshaling; null while it is away")
    work_rate: WorkRate | None = Field(None, description="null until two looks at the queue lie apart")
    warnings: list[str]
    memory_warnings: list[MemoryAlert]
    neighbours: list[Neighbour]
    nodes_left_out: int = Field(0, description=f"Above {MOST_NODES} nodes the quiet ones are left out")
    timestamp: UtcTime


class Overview(OverviewParts):
    hosts: list[OverviewNode] = Field(description="Nodes one by one, by tier and id")


class OverviewChanges(OverviewParts):
    """An event `changes`: hosts that are as before are not in it, the rest is whole."""

    hosts: list[OverviewNode] = Field(description="Nodes that changed or came")
    gone: list[str] = Field(description="Ids of nodes that are no longer shown")
