"""The fold: who may end an item, what is ignored and why, what is forgotten."""

import pytest

from compute_common import subjects
from compute_common.enums import WorkStatus
from tests.unit.work_marshaling.records import BASE, Log
from work_marshaling.kept import Limits


def test_an_item_without_a_name_is_named_by_its_place_in_the_log() -> None:
    log = Log()
    log.submit("first")
    outcome = log.submit()
    assert outcome.item is not None
    assert outcome.item.work_id == "w-2"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"node_id": "other"}, "foreign-node"),
        ({"node_id": "n", "attempt": 2}, "stale-attempt"),
        ({}, "unsigned"),
        ({"attempt": 1}, "unsigned"),
    ],
)
def test_a_report_that_is_not_the_holders_changes_nothing(report: dict[str, object], reason: str) -> None:
    log = Log()
    log.submit("a")
    log.assign("a", "n", fenced=True)
    assert log.complete("a", **report).reason == reason
    assert log.fail("a", **report).reason == reason
    assert log.state.items["a"].status is WorkStatus.ASSIGNED
    assert log.state.ignored[reason] == 2
    assert log.complete("a", node_id="n", attempt=1).event == "completed"


def test_a_plain_holder_needs_no_signature_and_its_first_word_counts() -> None:
    log = Log()
    log.submit("a")
    log.assign("a", "n")
    assert log.complete("a").event == "completed"
    assert log.complete("a").reason == "already-final"
    assert log.fail("a").reason == "already-final"
    assert log.state.items["a"].result_seq == 3


def test_a_node_with_its_own_account_cannot_decide_nor_speak_for_others() -> None:
    log = Log()
    log.submit("a")
    log.assign("a", "box.1", fenced=True)
    forged = {"work_id": "a", "error": "x", "node_id": "box.1", "final": True, "by": "work-marshaling"}
    assert log.add("compute.node.evil.failed", {**forged, "attempt": 1}).reason == "foreign-node"
    assert log.add("compute.node.evil.completed", {**forged}).reason == "foreign-node"
    assert log.add("compute.node.box=2E1.completed", {"work_id": "a", "result": 1}).event == "completed"


def test_a_failure_waits_for_the_leaders_decision() -> None:
    log = Log()
    log.submit("a")
    log.assign("a", "n")
    assert log.fail("a").event == "attempt-failed"
    item = log.state.items["a"]
    assert item.failing is not None
    assert not item.waiting
    assert log.complete("a").reason == "not-assigned"
    log.now = 3
    log.retry("a", 1, not_before="2023-11-14T22:13:30Z")
    assert log.state.items["a"].waiting
    assert item.retries == 1
    assert item.not_before == pytest.approx(BASE + 10)
    log.assign("a", "m", 2)
    assert log.complete("a", node_id="n", attempt=1).reason == "foreign-node"
    assert log.give_up("a", 1).reason == "stale-attempt"
    assert log.give_up("a", 2, "timeout").event == "failed"
    assert log.state.totals.timed_out == 1


def test_what_must_not_be_tried_again_ends_at_once() -> None:
    log = Log()
    log.submit("a")
    log.assign("a", "n")
    assert log.fail("a", retryable=False).event == "failed"
    assert log.state.items["a"].error == "broken"


def test_a_hand_back_is_nobodys_fault() -> None:
    log = Log()
    for attempt in range(1, 6):
        if attempt == 1:
            log.submit("a")
        log.assign("a", "n", attempt)
        log.fail("a", node_id="n", attempt=attempt, leaving=True)
        log.retry("a", attempt, counted=False, cause="leaving")
    assert log.state.items["a"].retries == 0
    assert not log.state.blacklist.blocks("n", "test", BASE)


def test_an_assignment_of_an_older_leader_does_not_count() -> None:
    log = Log()
    log.submit("a")
    log.add(subjects.WORK_DECIDED, {"decision": "lead", "by": "two", "epoch": 5})
    assert log.add(subjects.WORK_DECIDED, {"decision": "lead", "by": "x", "epoch": 5}).reason == "stale-epoch"
    assert log.assign("a", "n", epoch=4).reason == "stale-epoch"
    assert log.assign("a", "n", epoch=5).event == "assigned"
    assert log.assign("a", "m", epoch=5).reason == "stale-assignment"
    assert (log.state.leader, log.state.epoch) == ("two", 5)


def test_the_same_submission_is_the_same_item() -> None:
    log = Log()
    log.submit("a", payload={"x": 1, "y": 2})
    assert log.submit("a", payload={"y": 2, "x": 1}).reason == "repeated-submit"
    assert log.submit("a", payload={"x": 2}).reason == "conflicting-submit"
    log.submit(None, idempotency_key="k")
    assert log.submit(None, idempotency_key="k").reason == "repeated-submit"
    assert log.submit(None, idempotency_key="k", priority=1).reason == "conflicting-submit"
    assert log.submit("w-100").reason == "reserved-id"
    assert len(log.state.items) == 2


def test_an_ended_item_is_forgotten_after_its_time_and_its_name_is_free() -> None:
    log = Log(Limits(retention_seconds=10))
    log.submit("a", idempotency_key="k")
    log.add(subjects.WORK_CANCELLED, {"work_id": "a"})
    log.now = 11
    outcome = log.submit("a", payload={"other": 1})
    assert outcome.event == "submitted"
    assert log.state.floor() == outcome.item.seq if outcome.item else False
    log.add(subjects.WORK_CANCELLED, {"work_id": "a"})
    log.state.expire(BASE + 30)
    assert log.state.items == {}
    assert log.state.floor() == len(log.records) + 1
    assert sum(log.state.counts.values()) == 0


def test_only_so_many_ended_items_are_kept() -> None:
    log = Log(Limits(max_final=2))
    for name in ("a", "b", "c"):
        log.submit(name)
        log.add(subjects.WORK_CANCELLED, {"work_id": name})
    assert list(log.state.items) == ["b", "c"]


def test_an_oversized_submission_waits_for_its_end() -> None:
    log = Log(Limits(max_body_bytes=100))
    log.submit("a", payload={"x": "y" * 200})
    item = log.state.items["a"]
    assert item.failing is not None
    assert item.failing.cause == "payload-too-large"
    assert log.give_up("a", 0).event == "failed"


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{", b"null", b'{"a":NaN}', b'{"work_type":"\\ud800"}']
)
def test_garbage_is_counted(data: bytes) -> None:
    log = Log()
    for subject in (subjects.WORK_SUBMIT, subjects.WORK_COMPLETED, "compute.node.x.failed", "compute.else"):
        assert log.add(subject, data).event == "ignored"
    assert sum(log.state.ignored.values()) == 4
    assert log.state.position == 4
