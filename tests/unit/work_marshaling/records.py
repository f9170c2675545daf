"""Records of a work log, made by hand."""

from datetime import UTC, datetime
from typing import Any

from compute_common import subjects, wire_json
from work_marshaling.events import MARSHALER, Record
from work_marshaling.kept import Limits
from work_marshaling.outcome import Outcome
from work_marshaling.state import WorkState

BASE = 1_700_000_000.0


def at(seconds: float) -> str:
    return datetime.fromtimestamp(BASE + seconds, UTC).isoformat()


class Log:
    """Appends records to a list and folds them into a state, as the server and the service would."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.state = WorkState(self.limits)
        self.records: list[Record] = []
        self.now = 0.0

    def add(self, subject: str, body: Any, follows: int | None = None) -> Outcome:
        data = body if isinstance(body, bytes) else wire_json.dump(body)
        record = Record(len(self.records) + 1, BASE + self.now, subject, data, follows)
        self.records.append(record)
        return self.state.apply(record)

    def lead(self, name: str) -> Outcome:
        """Claim the lead, as this release does."""
        return self.decided({"decision": "lead", "by": name})

    def decide(self, **decisions: Any) -> Outcome:
        """A decision of the leader."""
        state = self.state
        return self.decided(
            {"decision": "decide", "by": state.leader, "epoch": state.epoch, **decisions},
        )

    def decided(self, body: dict[str, Any]) -> Outcome:
        """A compare-and-set that the server lets pass."""
        return self.add(subjects.WORK_DECIDED, body, follows=self.state.leadership.decided_seq)

    def assignment(self, work_id: str, node_id: str, **more: Any) -> dict[str, Any]:
        attempt = self.state.items[work_id].attempt + 1
        body = {"work_id": work_id, "node_id": node_id, "attempt": attempt}
        return {**body, "expires_at": at(self.now + 300), **more}

    def submit(self, work_id: str | None = None, **more: Any) -> Outcome:
        name = {"work_id": work_id} if work_id else {}
        return self.add(subjects.WORK_SUBMIT, {"work_type": "test", **name, **more})

    def assign(self, work_id: str, node_id: str, attempt: int = 1, **more: Any) -> Outcome:
        body = {"work_id": work_id, "node_id": node_id, "attempt": attempt, "expires_at": at(self.now + 300)}
        return self.add(subjects.WORK_ASSIGNED, {**body, **more})

    def complete(self, work_id: str, **more: Any) -> Outcome:
        return self.add(subjects.WORK_COMPLETED, {"work_id": work_id, "result": 1, **more})

    def fail(self, work_id: str, **more: Any) -> Outcome:
        return self.add(subjects.WORK_FAILED, {"work_id": work_id, "error": "broken", **more})

    def give_up(self, work_id: str, attempt: int, cause: str = "error") -> Outcome:
        return self.fail(work_id, attempt=attempt, by=MARSHALER, final=True, cause=cause)

    def retry(self, work_id: str, attempt: int, **more: Any) -> Outcome:
        body = {"work_id": work_id, "attempt": attempt, "not_before": at(self.now), "reason": "again"}
        return self.add(subjects.WORK_RETRIED, {**body, **more})
