"""The NATS subjects of the queue, for `GET /api/v1/subjects`."""

from compute_common import subjects
from compute_common.schemas.base import Wire


class SubjectUse(Wire):
    subject: str
    kind: str
    purpose: str


_LOG = "publish"
_ASK = "request/reply"

SUBJECTS = (
    SubjectUse(
        subject=subjects.WORK_SUBMIT, kind=_LOG, purpose="Submit a work item; a request gets a receipt"
    ),
    SubjectUse(subject=subjects.WORK_REQUEST, kind=_LOG, purpose="The same, older spelling"),
    SubjectUse(
        subject=subjects.WORK_ASSIGNED, kind=_LOG, purpose="A work item for one node, by this service"
    ),
    SubjectUse(subject=subjects.WORK_COMPLETED, kind=_LOG, purpose="A node reports a result"),
    SubjectUse(subject=subjects.WORK_FAILED, kind=_LOG, purpose="A node reports a failure"),
    SubjectUse(subject=subjects.WORK_PROGRESS, kind=_LOG, purpose="A node renews its lease"),
    SubjectUse(subject=subjects.WORK_CANCELLED, kind=_LOG, purpose="An item was cancelled; its worker stops"),
    SubjectUse(subject=subjects.WORK_RETRIED, kind=_LOG, purpose="An attempt ended; there is another one"),
    SubjectUse(subject=subjects.WORK_DECIDED, kind=_LOG, purpose="Internal decisions of this service"),
    SubjectUse(
        subject="compute.node.<id>.{completed,failed,progress}",
        kind=_LOG,
        purpose="The same reports of a node that has a NATS account of its own",
    ),
    SubjectUse(subject=subjects.WORK_CANCEL, kind=_ASK, purpose="Cancel an item"),
    SubjectUse(
        subject=subjects.WORK_STATUS, kind=_ASK, purpose="One item, or without work_id the statistics"
    ),
)
