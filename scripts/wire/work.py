"""Messages of the queue."""

from compute_common import subjects
from compute_common.schemas import work
from scripts.wire.channel import Channel

WORK = (
    Channel(
        subjects.WORK_SUBMIT,
        "message",
        "anyone",
        "work-marshaling",
        work.SubmitRequest,
        "A work item, durable once published; a request gets JetStream's receipt: its `seq` names the item "
        "`w-<seq>` where it brings no id",
    ),
    Channel(
        subjects.WORK_REQUEST,
        "message",
        "anyone",
        "work-marshaling",
        work.SubmitRequest,
        "The same, older spelling",
    ),
    Channel(
        subjects.WORK_ASSIGNED,
        "message",
        "work-marshaling",
        "nodes",
        work.Assignment,
        "The whole item for one node; a node takes only its own, and asks the queue about a lower epoch",
    ),
    Channel(
        subjects.WORK_COMPLETED,
        "message",
        "nodes",
        "work-marshaling",
        work.Completed,
        "A result; without `node_id` it counts for the current holder, unless that one announced `fenced`",
    ),
    Channel(
        subjects.WORK_FAILED,
        "message",
        "nodes",
        "work-marshaling",
        work.Failed,
        "A failure; tried again elsewhere unless `retryable` is false",
    ),
    Channel(
        subjects.WORK_PROGRESS,
        "message",
        "nodes",
        "work-marshaling",
        work.Progress,
        "Renews the holder's lease",
    ),
    Channel(
        subjects.WORK_CANCELLED,
        "message",
        "work-marshaling",
        "nodes",
        work.Cancelled,
        "An item was cancelled; its worker stops",
    ),
    Channel(
        subjects.WORK_RETRIED,
        "event",
        "work-marshaling",
        "watchers",
        work.Retried,
        "An attempt ended; there is another one",
    ),
    Channel(
        subjects.WORK_DECIDED,
        "message",
        "work-marshaling",
        "work-marshaling",
        None,
        "The leader's decisions, acknowledged before they are told",
        internal=True,
    ),
    Channel(
        subjects.WORK_CANCEL,
        "request",
        "anyone",
        "work-marshaling",
        work.WorkRef,
        "Cancel an item",
        work.CancelAnswer,
    ),
    Channel(
        subjects.WORK_STATUS,
        "request",
        "anyone",
        "work-marshaling",
        work.WorkRef,
        "One item; without `work_id` the statistics",
        work.WorkItem,
    ),
)
