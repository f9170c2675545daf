"""Logs that older releases wrote fold to what they meant, and a new leader goes on from there."""

import json
from pathlib import Path

from compute_common import subjects
from compute_common.enums import WorkStatus
from tests.unit.work_marshaling.records import Log
from work_marshaling.events import Record
from work_marshaling.kept import Limits
from work_marshaling.state import WorkState

LOG = Path(__file__).parent / "logs" / "before_compare_and_set.jsonl"
MEANT = {  # as the code that wrote it folded it: status, attempt, retries
    "ok": ("completed", 1, 0),
    "flaky": ("completed", 2, 1),
    "progress": ("completed", 1, 0),
    "fatal": ("failed", 1, 0),
    "broken": ("failed", 2, 1),
    "w-25": ("completed", 1, 0),
    "waits": ("pending", 0, 0),
    "held": ("assigned", 1, 0),
    "moved": ("completed", 1, 0),
    "cancelled": ("cancelled", 0, 0),
    "big": ("failed", 0, 0),
}


def records() -> list[Record]:
    lines = [json.loads(line) for line in LOG.read_text().splitlines()]
    return [Record(line["seq"], line["time"], line["subject"], line["body"].encode()) for line in lines]


def folded() -> WorkState:
    state = WorkState(Limits(max_body_bytes=4096))
    for record in records():
        state.apply(record)
    return state


def test_an_old_log_means_what_it_meant() -> None:
    state = folded()
    found = {name: (item.status.value, item.attempt, item.retries) for name, item in state.items.items()}
    assert found == MEANT
    assert state.ignored == {"already-final": 2, "foreign-node": 1, "malformed-json": 1}
    assert (state.totals.submitted, state.totals.assignments, state.totals.completions) == (11, 10, 5)
    assert state.items["held"].holder == "first"
    assert all(item.delivered for item in state.items.values() if item.status is WorkStatus.ASSIGNED)


def test_a_new_leader_takes_it_over_and_the_old_one_decides_nothing_more() -> None:
    log = Log(Limits(max_body_bytes=4096))
    log.state, log.records = folded(), records()
    log.now = 1e8
    epoch = log.state.epoch
    log.lead("new")
    assert log.state.epoch > epoch
    assert log.add(subjects.WORK_DECIDED, {"decision": "lead", "by": "old", "epoch": 1 << 40}).reason == (
        "forged-decision"
    )
    assert log.assign("waits", "x", epoch=1 << 40).reason == "forged-decision"
    assert log.decide(assign=[log.assignment("waits", "x")]).parts[0].event == "assigned"
    assert log.complete("waits", node_id="x", attempt=1).event == "completed"
    assert log.complete("held", node_id="first", attempt=1).event == "completed"


def test_fields_and_decisions_of_newer_releases_are_passed_over() -> None:
    log = Log()
    log.lead("me")
    log.submit("a", colour="blue", requirements={"shape": "round"})
    assert log.decide(shade="dark", assign=[{**log.assignment("a", "n"), "warmth": 1}]).parts[0].item
    assert log.add(subjects.WORK_DECIDED, {"decision": "paint", "by": "me"}).reason == "invalid-fields"
    assert log.complete("a", node_id="n", attempt=1, mood="good").event == "completed"
