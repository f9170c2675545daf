"""Messages of one who wants to do harm, or of a client gone wrong; none of them may change anything."""

from random import Random
from typing import Any

from compute_common import subjects

FAR = "2090-01-01T00:00:00Z"


def forged(random: Random, work_id: str) -> tuple[str, dict[str, Any]]:
    """`(subject, body)`: in the name of another node, of another attempt, of nobody, or of the leader."""
    body: dict[str, Any] = {"work_id": work_id, "result": "forged", "error": "forged", "reason": "forged"}
    verb = random.choice(["completed", "failed", "progress"])
    subject = f"compute.work.{verb}.v1"
    match random.randrange(5):
        case 0:
            return subject, {**body, "node_id": "stranger"}
        case 1:
            return subject, {**body, "node_id": "n1", "attempt": random.choice([997, 998])}
        case 2:
            return subject, body  # unsigned: of a fenced holder it does not count
        case 3:
            return f"compute.node.stranger.{verb}", {**body, "node_id": "n1", "attempt": 1}
    return _as_leader(random, body)


def _as_leader(random: Random, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    said = {**body, "node_id": "stranger", "attempt": random.randint(1, 3), "epoch": 1 << 50}
    said |= {"by": "work-marshaling", "final": True, "not_before": FAR, "expires_at": FAR}
    if random.random() < 0.5:
        return random.choice([subjects.WORK_RETRIED, subjects.WORK_FAILED]), said
    decision = random.choice(["lead", "decide"])
    lists = {"assign": [said], "fail": [said], "retry": [said]}
    return subjects.WORK_DECIDED, {"decision": decision, "by": "stranger", "epoch": 1 << 50, **lists}


def garbage(random: Random) -> tuple[str, bytes]:
    """On any subject: no JSON, no object, the wrong types."""
    subject = random.choice(
        [subjects.WORK_SUBMIT, subjects.WORK_COMPLETED, subjects.WORK_DECIDED, "compute.node.n1.failed"]
    )
    data = random.choice(
        [b"", b"\xff\xfe", b"[1]", b'"x"', b"{", b'{"work_id": 7, "attempt": "many"}', b'{"a": NaN}']
    )
    return subject, data
