"""The reservation ledger on the wire."""

from typing import Annotated

from pydantic import Field

from compute_common.enums import MemoryLevel
from compute_common.ids import Identifier
from compute_common.schemas.base import JsonObject, Name, Page, Wire
from compute_common.times import UtcTime

MAX_YIELD_SECONDS = 31 * 86_400
GpuIndices = Annotated[list[Annotated[int, Field(ge=0, le=4096)]], Field(max_length=256)]
RequiredMb = Annotated[int, Field(gt=0, le=1 << 30, description="MiB, per GPU")]


class ReserveRequest(Wire):
    """All of `gpu_indices` or none; an empty list reserves host RAM for a CPU engine."""

    gpu_indices: GpuIndices = Field(description="GPUs of this host; empty = host RAM", examples=[[0, 1]])
    required_mb: RequiredMb
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    owner: Name | None = None
    model_name: Name | None = None
    idempotency_key: Name | None = None


class ReservationRef(Wire):
    """A reservation of the addressed host, in a request over NATS."""

    reservation_id: Identifier
    request_id: Name | None = None


class RenewRequest(Wire):
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    owner: Name | None = Field(None, description="When given, a reservation of another owner is refused")


class BindRequest(Wire):
    """What the memory belongs to: a process (with its session) or a container."""

    pid: Annotated[int, Field(gt=0, le=1 << 22)] | None = None
    start_time: Annotated[float, Field(gt=0, le=1e11)] | None = Field(
        None, description="When the process started, seconds since 1970: a stranger with its pid is refused"
    )
    container_id: Identifier | None = None
    owner: Name | None = Field(None, description="When given, a reservation of another owner is refused")


class Reservation(Wire):
    reservation_id: str
    gpu_indices: list[int]
    reserved_mb: int = Field(description="MiB, per GPU (or of host RAM)")
    owner: str | None = None
    model_name: str | None = None
    created_at: UtcTime
    expires_at: UtcTime | None = Field(None, description="None while bound to something that lives")
    state: str = Field(description="created, bound, released, expired")
    bound_to: JsonObject | None = None
    attribution: str | None = Field(
        None, description="process, or assumed where its use cannot be told by process; None while unbound"
    )
    health: str = Field("ok", description="ok, or what is wrong with a GPU it is on: lost, failing, gone")
    used_mb: int | None = Field(
        None, description="MiB seen in use by what it is bound to, on the fullest GPU; None while unbound"
    )


class ReservationList(Page):
    reservations: list[Reservation]


class GpuState(Wire):
    """One GPU, or one MIG slice of one: the slices of card n have the indices 100 × (n + 1) and up."""

    node_id: str
    index: int = Field(description="What gpu_indices names; not for CUDA_VISIBLE_DEVICES, use uuid there")
    uuid: str | None = Field(None, description="What CUDA_VISIBLE_DEVICES takes")
    name: str
    total_mb: int
    used_mb: int
    free_mb: int
    reserved_mb: int
    available_mb: int
    foreign_mb: int = Field(description="In use by programs nobody registered")
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    reservations: list[str] = []
    processes: list[JsonObject] = Field(
        [], description="pid, used_mb (null: not told), name, reservation_id (null: nobody registered it)"
    )
    attribution: str = Field("process", description="process, or assumed where use per process is unreadable")
    health: str = Field("ok", description="ok, or why it takes nothing new")
    schedulable: bool = Field(True, description="False for a card in MIG mode: its slices are")
    parent_index: int | None = Field(None, description="Of a MIG slice: the card it was cut from")
    unified: bool = Field(False, description="Draws on the host's RAM, as do reservations of RAM")
    links: list[JsonObject] = Field([], description="to (index) and kind of each fast path to another GPU")
    cordoned: bool = False


class HostMemoryState(Wire):
    total_mb: int
    used_mb: int
    available_mb: int = Field(description="What a new reservation may take")
    reserved_mb: int
    foreign_mb: int
    reservations: list[str] = []


class HostStates(Wire):
    """RAM of one host, in an answer about several."""

    node_id: str
    host_memory: HostMemoryState


class ReservationHealth(Wire):
    """How the GPUs of one reservation are."""

    node_id: str
    reservation_id: str
    owner: str | None = None
    health: str = Field(description="ok, or what is wrong with a GPU it is on: lost, failing, gone")


class GpuStates(Page):
    """GPUs and RAM of one host; with `node_id=all` the GPUs of every host, and `hosts` with their RAM."""

    node_id: str
    gpus: list[GpuState]
    host_memory: HostMemoryState = Field(description="Of the host in `node_id`")
    hosts: list[HostStates] | None = None
    unreachable: list[str] | None = Field(None, description="Hosts that did not answer")
    flagged: list[ReservationHealth] = Field(
        [], description="Reservations with something wrong with a GPU that they are on"
    )
    timestamp: UtcTime


class CordonRequest(Wire):
    """A GPU of the addressed host, in a request over NATS."""

    index: Annotated[int, Field(ge=0, le=4096)]
    request_id: Name | None = None


class CordonAnswer(Wire):
    node_id: str
    index: int
    cordoned: bool


class YieldTarget(Wire):
    """Which of a host's devices its owner wants, or gives back."""

    gpu_indices: GpuIndices | None = Field(
        None, description="None = every GPU, the RAM of a host without one; empty = the RAM", examples=[[0]]
    )


class YieldRequest(YieldTarget):
    """Lend devices back to the host's owner: nothing new goes there and its instances are stopped."""

    for_seconds: Annotated[float, Field(gt=0, le=MAX_YIELD_SECONDS)] | None = Field(
        None, description="How long; without it and without `until`: until it is ended"
    )
    until: UtcTime | None = None


class YieldState(Wire):
    gpu_index: int | None = Field(None, description="None = host RAM")
    until: UtcTime | None = Field(None, description="None = until it is ended")
    source: str = Field(description="operator, or quiet hours")
    reservations: list[Reservation] = Field([], description="What still holds memory there")


class Yields(Page):
    """What a host has lent back to its owner now."""

    node_id: str
    yields: list[YieldState]


class GpuHealthChange(Wire):
    """A GPU began to fail, was lost, or is well again."""

    index: int
    uuid: str
    health: str = Field(description="ok, or why it takes nothing new; gone: its driver lists it no longer")
    previous_health: str
    reservations: list[ReservationHealth] = Field([], description="On this GPU, at most 500")


class ReservationEvent(Wire):
    """`compute.gpu.state.v1`: the ledger of a host changed, or the health of a GPU that it is about."""

    event: str = Field(
        description="reserved, renewed, bound, released, expired, cordoned, uncordoned, yielded, "
        "yield-ended, health-changed"
    )
    node_id: str
    reservation: Reservation | None = None
    gpu: GpuHealthChange | None = Field(None, description="Of health-changed")
    timestamp: UtcTime
    v: int = 1


class MemoryWarning(Wire):
    """`compute.gpu.memory.warning.v1`: the memory level of a host's RAM or of one of its GPUs changed."""

    node_id: str
    gpu_index: int | None = Field(None, description="None = host RAM")
    level: MemoryLevel
    previous_level: MemoryLevel
    available_mb: int
    predicted_oom_seconds: float | None = None
    timestamp: UtcTime
    v: int = 1


class CanFitRequest(Wire):
    required_mb: RequiredMb
    gpu_count: Annotated[int, Field(ge=0, le=256, description="0 = host RAM")] = 1
    prefer_nvlink: bool = False


class CanFitAnswer(Wire):
    fits: bool
    gpu_indices: list[int] = []
    reason: str
    alternatives: list[JsonObject] = []
    linked_pairs: list[list[int]] = Field([], description="Pairs of the chosen GPUs joined by NVLink")
    shortfall: list[JsonObject] = Field(
        [], description="Of each usable GPU that is too full: gpu_index, available_mb, shortfall_mb"
    )


class MemoryForecast(Wire):
    total_mb: int
    available_mb: int
    swap_total_mb: int = 0
    swap_free_mb: int = 0
    pressure: float | None = Field(
        None, description="PSI some avg10, percent; None where the kernel has none"
    )
    trend_mb_per_s: float | None = Field(None, description="MiB/s of available memory; negative = shrinking")
    predicted_oom_seconds: float | None = None
    predicted_oom_range_seconds: tuple[float, float] | None = None
    confidence: float = 0.0
    level: MemoryLevel = MemoryLevel.OK


class GpuMemoryForecast(MemoryForecast):
    index: int


class MemoryAnswer(MemoryForecast):
    node_id: str
    gpus: list[GpuMemoryForecast] = []
    timestamp: UtcTime
