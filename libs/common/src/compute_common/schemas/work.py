"""Work items on the wire."""

from typing import Annotated, Any

from pydantic import AliasChoices, Field, field_validator, model_validator

from compute_common.enums import Tier, WorkStatus
from compute_common.ids import Identifier
from compute_common.schemas.base import JsonObject, Labels, Name, Page, Wire
from compute_common.times import UtcTime

Priority = Annotated[int, Field(ge=0, le=9, description="0 = first … 9 = last")]
TimeoutSeconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
_REQUIREMENT_ALIASES = {
    "requires_gpu": ("requires_gpu", "required_gpu"),
    "min_tier": ("min_tier", "required_tier"),
    "min_vram_gb": ("min_vram_gb", "required_vram_gb"),
    "labels": ("required_labels",),
    "node_id": ("required_node_id",),
}
_REQUIREMENT_WORDS = frozenset(alias for aliases in _REQUIREMENT_ALIASES.values() for alias in aliases)


class Requirements(Wire):
    """What a node must have to be given the item."""

    requires_gpu: bool = False
    min_tier: Tier | None = None
    min_vram_gb: float | None = Field(None, ge=0, le=1e6)
    labels: Labels = Field(default_factory=dict)  # a shared default would be copied deeply each time
    node_id: Identifier | None = None


_ASKS_NOTHING = Requirements()


class SubmitRequest(Wire):
    """A work item. The same id with the same body is the same item; with another body it is refused."""

    work_type: Annotated[
        str,
        Field(min_length=1, max_length=128, validation_alias=AliasChoices("work_type", "workload_type")),
    ]
    model_name: Name | None = None
    priority: Priority = 5
    payload: JsonObject = Field(default_factory=dict)
    work_id: Identifier | None = Field(
        None,
        validation_alias=AliasChoices("work_id", "request_id"),
        description="Named by the server when absent",
    )
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    timeout_seconds: TimeoutSeconds = 300
    queue_timeout_seconds: TimeoutSeconds | None = Field(
        None, description="Fails when it has waited this long for a node; absent = waits for ever"
    )
    max_retries: Annotated[int, Field(ge=0, le=100)] | None = None
    not_before: UtcTime | None = None
    requirements: Requirements = Field(default_factory=lambda: _ASKS_NOTHING)  # made once, not each time
    metadata: JsonObject = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_requirements(cls, data: Any) -> Any:
        """Accept `required_*` and bare requirement names beside `requirements`."""
        if not isinstance(data, dict):
            return data
        body = {key: value for key, value in data.items() if value is not None}
        given = body.get("requirements", {})
        if not isinstance(given, dict) or _REQUIREMENT_WORDS.isdisjoint(body):
            return body
        found = dict(given)
        for name, aliases in _REQUIREMENT_ALIASES.items():
            for alias in aliases:
                if alias in body:
                    found.setdefault(name, body.pop(alias))
        if found:
            body["requirements"] = found
        return body

    @field_validator("work_type")
    @classmethod
    def _plain_word(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be printable text")
        return value


class SubmitAnswer(Wire):
    work_id: str
    status: WorkStatus = WorkStatus.PENDING
    submitted_at: UtcTime
    warnings: list[str] = []


class SubmitBatch(Wire):
    items: Annotated[list[SubmitRequest], Field(min_length=1, max_length=1000)]


class SubmitBatchAnswer(Page):
    items: list[SubmitAnswer]


class HistoryEntry(Wire):
    at: UtcTime
    event: str
    node_id: str | None = None
    attempt: int = 0
    reason: str | None = None


class WorkItem(Wire):
    work_id: str
    request_id: str
    status: WorkStatus
    work_type: str
    model_name: str | None = None
    priority: int
    assigned_node: str | None = None
    attempt: int = 0
    retry_count: int = 0
    max_retries: int
    timeout_seconds: float
    queue_timeout_seconds: float | None = None
    set_aside: bool = Field(
        False, description="It failed on several nodes: blamed itself, kept to be looked at and run again"
    )
    not_before: UtcTime | None = None
    waiting_for: str | None = Field(None, description="Why it is still pending, in words")
    progress: Any = None
    history: list[HistoryEntry] = []
    result: Any = None
    error_message: str | None = None
    metadata: JsonObject = {}
    created_at: UtcTime
    updated_at: UtcTime


class WorkList(Page):
    items: list[WorkItem]


class CancelAnswer(Wire):
    work_id: str
    cancelled: bool
    status: WorkStatus


class WorkStats(Wire):
    total_requests: int
    pending: int
    assigned: int
    completed: int
    failed: int
    cancelled: int
    retried: int
    timed_out: int
    avg_assignment_time_ms: float | None = None
    avg_completion_time_ms: float | None = None


class Assignment(Wire):
    """`compute.work.assigned.v1`: the whole item, for one node."""

    work_id: str
    request_id: str
    node_id: str
    attempt: Annotated[int, Field(ge=0, le=1_000_000)]
    epoch: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    work_type: str
    workload_type: str
    model_name: str | None = None
    priority: int = 5
    payload: JsonObject = {}
    metadata: JsonObject = {}
    timeout_seconds: float = 300
    assigned_at: UtcTime
    lease_expires_at: UtcTime
    expires_at: UtcTime
    fenced: bool = Field(False, description="Its holder announced that its reports carry node_id and attempt")
    session: Name | None = Field(None, description="The run of the holder's program that this was given to")
    v: int = 1


class Completed(Wire):
    """`compute.work.completed.v1`, from the node that holds the item."""

    work_id: Identifier
    result: Any = None
    node_id: Identifier | None = None
    attempt: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class Failed(Wire):
    """`compute.work.failed.v1`."""

    work_id: Identifier
    error: Annotated[str, Field(max_length=65_536)] = "failed without a reason"
    node_id: Identifier | None = None
    attempt: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    retryable: bool = True
    leaving: bool = Field(False, description="Handed back by a node that ends: no fault, goes elsewhere")


class Progress(Wire):
    """`compute.work.progress.v1`: renews the lease."""

    work_id: Identifier
    node_id: Identifier
    attempt: Annotated[int, Field(ge=0, le=1_000_000)]
    progress: Any = None


class Cancelled(Wire):
    work_id: Identifier
    node_id: Identifier | None = None
    attempt: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    reason: Name = "cancelled"
    v: int = 1


class Retried(Wire):
    work_id: Identifier
    attempt: Annotated[int, Field(ge=0, le=1_000_000)]
    not_before: UtcTime
    reason: Name = "retried"
    v: int = 1


class WorkRef(Wire):
    """A request about one item; without `work_id` a status request answers the statistics."""

    work_id: Identifier | None = None
    request_id: Name | None = None


class BlacklistEntry(Wire):
    node_id: str
    failures: int
    until: UtcTime
    reason: str


class Blacklist(Page):
    nodes: list[BlacklistEntry]
