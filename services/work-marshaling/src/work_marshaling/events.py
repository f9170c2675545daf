"""A message of the work log, parsed: hostile until it is one of these records."""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from compute_common import subjects, wire_json
from compute_common.ids import Identifier, is_identifier
from compute_common.schemas import work
from compute_common.schemas.base import JsonObject, Name, Wire
from compute_common.times import UtcTime

MARSHALER = "work-marshaling"
NODE_FAMILY = "compute.node."
MOST_DECISIONS = 1024
VERSION, DECISION_VERSION = 1, 2  # the newest `v` of records that this program knows; none said is 1
NEWER = "newer-version"


class Record(NamedTuple):
    """One message of the log. `time` is the server's stamp, seconds since 1970.

    `follows`: it was a compare-and-set, and this was its subject's last sequence before it. `trace`: the W3C
    trace context it came with.
    """

    seq: int
    time: float
    subject: str
    body: bytes
    follows: int | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that is no event: it is counted under `reason` and changes nothing."""

    reason: str


class Submitted(NamedTuple):
    request: work.SubmitRequest
    size: int


class Assigned(Wire):
    """The leader's decision to give an item to a node."""

    work_id: Identifier
    node_id: Identifier
    attempt: Annotated[int, Field(ge=1, le=1_000_000)]
    epoch: int = 0
    expires_at: UtcTime
    fenced: bool = False
    session: Name | None = None
    own_subject: bool = False


class Moved(Wire):
    """A submission said again at the head of the log, so that its beginning can be purged."""

    work_id: Identifier
    from_seq: Annotated[int, Field(ge=1)]
    submission: JsonObject


class Stored(Wire):
    """A completion whose large result is in the object store; it stands for the message it replaces."""

    work_id: Identifier
    node_id: Identifier
    attempt: Annotated[int, Field(ge=1, le=1_000_000)]
    object_name: Name


class Failed(work.Failed):
    """A node's report, or with `by` and `final` the leader's decision that there is no other attempt."""

    by: Name | None = None
    final: bool = False
    cause: Name = "error"


class Retried(work.Retried):
    """The leader's decision that there is another attempt."""

    node_id: Identifier | None = None
    cause: Name = "error"
    counted: bool = True


class Decided(Wire):
    """What the leader decides, one message for many items; and who leads (by its place in the log)."""

    decision: Literal["lead", "forgive", "decide", "move", "store"]
    by: Name = ""
    epoch: Annotated[int, Field(ge=0, le=1 << 53)] = 0
    node_id: Identifier | None = None
    assign: Annotated[list[Assigned], Field(max_length=MOST_DECISIONS)] = []
    retry: Annotated[list[Retried], Field(max_length=MOST_DECISIONS)] = []
    fail: Annotated[list[Failed], Field(max_length=MOST_DECISIONS)] = []
    move: Moved | None = None
    store: Stored | None = None


ItemEvent = Assigned | work.Completed | Failed | work.Progress | work.Cancelled | Retried
Event = Submitted | Decided | ItemEvent

_MODELS: dict[str, type[Wire]] = {
    subjects.WORK_ASSIGNED: Assigned,
    subjects.WORK_COMPLETED: work.Completed,
    subjects.WORK_FAILED: Failed,
    subjects.WORK_PROGRESS: work.Progress,
    subjects.WORK_CANCELLED: work.Cancelled,
    subjects.WORK_RETRIED: Retried,
    subjects.WORK_DECIDED: Decided,
}
_NODE_VERBS: dict[str, type[Wire]] = {
    "completed": work.Completed,
    "failed": Failed,
    "progress": work.Progress,
    "assigned": Assigned,
}


def parse(record: Record) -> Event | Refused:
    """The event in `record`, or why it is none. Deterministic; never raises.

    A record of a newer version counts where its known fields suffice; else it is set aside under a reason of
    its own, and the program that wrote it will read it.
    """
    try:
        body = wire_json.parse_object(record.body)
    except ValueError:
        return Refused("malformed-json")
    try:
        if record.subject in (subjects.WORK_SUBMIT, subjects.WORK_REQUEST):
            return Submitted(work.SubmitRequest.model_validate(body), len(record.body))
        if record.subject.startswith(NODE_FAMILY):
            return _from_node(record.subject, body)
        model = _MODELS.get(record.subject)
        return model.model_validate(body) if model else Refused("unknown-subject")  # type: ignore[return-value]
    except ValidationError:
        return Refused(NEWER if _is_newer(record.subject, body) else "invalid-fields")


def _is_newer(subject: str, body: dict[str, Any]) -> bool:
    version = body.get("v", 1)
    known = DECISION_VERSION if subject == subjects.WORK_DECIDED else VERSION
    return isinstance(version, int) and version > known


def _from_node(subject: str, body: dict[str, Any]) -> Event | Refused:
    """A message of `compute.node.<id>.<verb>`: the subject's account is the node, whatever the body says."""
    _, _, token, verb = subject.split(".")
    node_id, model = subjects.untoken(token), _NODE_VERBS.get(verb)
    if model is None or not is_identifier(node_id):
        return Refused("unknown-subject")
    event = model.model_validate({**body, "node_id": node_id})
    if isinstance(event, Failed):
        event = event.model_copy(update={"by": None, "final": False})
    return event  # type: ignore[return-value]


def fingerprint(request: work.SubmitRequest) -> bytes:
    """Sixteen bytes that tell whether two submissions ask for the same; names, keys and defaults aside."""
    content = request.model_dump(mode="json", exclude={"work_id", "idempotency_key"}, exclude_defaults=True)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()[:16]
