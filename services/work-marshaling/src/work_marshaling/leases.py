"""When a holder has lost an item, and whether there is another attempt."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from work_marshaling.attempts import NODE_CAUSES, POISON
from work_marshaling.events import MARSHALER
from work_marshaling.fleet import NodeView
from work_marshaling.items import Failure, Item


@dataclass(frozen=True, slots=True)
class RetryRule:
    """`delay_seconds` × 2ⁿ with full jitter, at most `cap_seconds`; `retries` where the item names none."""

    retries: int = 3
    delay_seconds: float = 5.0
    cap_seconds: float = 300.0
    max_attempts: int = 100  # hand-backs use up no retry, yet they end too
    poison_nodes: int = 3  # an item that failed on so many nodes is itself to blame


@dataclass(frozen=True, slots=True)
class LeaseRule:
    """`silence_seconds`: how long a holder that has sent progress may then be silent."""

    silence_seconds: float = 20.0
    leaving_grace_seconds: float = 5.0
    absence_grace_seconds: float = 10.0


def out_of_patience(item: Item, now: float) -> Failure | None:
    """Why a waiting item waits no longer, or None."""
    if item.queue_timeout is None or now - item.waiting_since < item.queue_timeout:
        return None
    reason = f"queue-timeout: no node took it within {item.queue_timeout:g} s"
    return Failure("queue-timeout", reason, None, retryable=False)


def lost(item: Item, node: NodeView | None, gone_for: float, now: float, rule: LeaseRule) -> Failure | None:
    """Why the holder has lost the item, or None.

    `node` is None where the registry does not know it; `gone_for` is how many seconds that has been so, or
    how long the holder's program has been known to be gone from its host.
    """
    return _overdue(item, now, rule) or _gone(item, node, gone_for, rule)


def _overdue(item: Item, now: float, rule: LeaseRule) -> Failure | None:
    if now >= item.expires_at:
        reason = f"timeout: no result within {item.timeout_seconds:g} s"
        return Failure("timeout", reason, item.holder)
    if item.heard_at is not None and now - item.heard_at >= rule.silence_seconds:
        reason = f"node {item.holder} has been silent for {rule.silence_seconds:g} s"
        return Failure("silent", reason, item.holder)
    return None


def _gone(item: Item, node: NodeView | None, gone_for: float, rule: LeaseRule) -> Failure | None:
    held_by = f"node {item.holder}"
    if node is None:
        absent = gone_for >= rule.absence_grace_seconds
        return (
            Failure("node-offline", f"{held_by} is not registered any more", item.holder) if absent else None
        )
    if not node.online:
        return Failure("node-offline", f"{held_by} went offline", item.holder)
    if item.session and node.session and item.session != node.session:
        return Failure("node-restarted", f"the worker on {held_by} was restarted", item.holder)
    if gone_for >= rule.leaving_grace_seconds:
        return Failure("node-left", f"the worker on {held_by} ended", item.holder)
    return None


def delay_seconds(item: Item, rule: RetryRule) -> float:
    """Full jitter (AWS Architecture Blog, 2015), drawn from the item's name and attempt: always the same."""
    limit = min(rule.cap_seconds, rule.delay_seconds * float(1 << min(item.retries, 30)))
    digest = hashlib.sha256(f"{item.work_id}:{item.attempt}".encode()).digest()
    return limit * (int.from_bytes(digest[:8], "big") / float(1 << 64))


def another_attempt(item: Item, failure: Failure, rule: RetryRule) -> bool:
    retries = rule.retries if item.max_retries is None else item.max_retries
    if not failure.retryable or item.attempt >= rule.max_attempts:
        return False
    return not failure.counted or item.retries < retries


def failed_on(item: Item, failure: Failure) -> tuple[str, ...]:
    """The nodes it failed on by now, each once."""
    node_id = failure.node_id
    blamed = node_id is not None and failure.cause in NODE_CAUSES and node_id not in item.failed_on
    return (*item.failed_on, node_id) if blamed and node_id else item.failed_on


def poisonous(item: Item, failure: Failure, rule: RetryRule) -> bool:
    return failure.cause in NODE_CAUSES and len(failed_on(item, failure)) >= rule.poison_nodes


def verdict(item: Item, failure: Failure, now: float, rule: RetryRule) -> dict[str, object]:
    """The body of the `retried` event, or of the final `failed` one (it has `final`)."""
    body: dict[str, object] = {
        "work_id": item.work_id,
        "attempt": item.attempt,
        "cause": failure.cause,
        "by": MARSHALER,
        "v": 1,
    }
    if failure.node_id:
        body["node_id"] = failure.node_id
    if failure.retryable and poisonous(item, failure, rule):
        nodes = ", ".join(failed_on(item, failure)[:8])
        error = f"set aside: it failed on {nodes}; the last time: {failure.reason}"
        return {**body, "cause": POISON, "error": error, "final": True, "retryable": False}
    if another_attempt(item, failure, rule):
        # Whose node is gone or leaving did nothing wrong: it goes elsewhere at once.
        wait = delay_seconds(item, rule) if failure.cause in NODE_CAUSES else 0.0
        due = datetime.fromtimestamp(now + wait, UTC)
        return {**body, "not_before": due, "reason": failure.reason[:512], "counted": failure.counted}
    return {**body, "error": failure.reason, "final": True, "retryable": False}
