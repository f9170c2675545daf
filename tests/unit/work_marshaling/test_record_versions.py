"""Records that a newer version wrote: read where the known fields suffice, else set aside and counted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common import subjects, wire_json
from compute_common.schemas import work
from work_marshaling.events import NEWER, Decided, Record, Refused, parse
from work_marshaling.kept import Limits
from work_marshaling.state import WorkState

COMPLETED = {"work_id": "w-1", "node_id": "a", "attempt": 1, "result": {"x": 1}}


def parsed(subject: str, body: dict[str, Any]) -> object:
    return parse(Record(1, 0.0, subject, wire_json.dump(body)))


def test_a_newer_record_that_can_be_read_counts() -> None:
    found = parsed(subjects.WORK_COMPLETED, {**COMPLETED, "v": 7, "cost": {"joules": 3}})
    assert isinstance(found, work.Completed)
    assert found.work_id == "w-1"
    assert found == parsed(subjects.WORK_COMPLETED, COMPLETED), "no version said is the first"


@pytest.mark.parametrize(
    ("subject", "body", "reason"),
    [
        (subjects.WORK_COMPLETED, {"v": 2, "item": "w-1"}, NEWER),
        (subjects.WORK_COMPLETED, {"v": 1, "item": "w-1"}, "invalid-fields"),
        (subjects.WORK_COMPLETED, {"item": "w-1"}, "invalid-fields"),
        (subjects.WORK_DECIDED, {"v": 3, "decision": "hibernate"}, NEWER),
        (subjects.WORK_DECIDED, {"v": 2, "decision": "hibernate"}, "invalid-fields"),
        (subjects.WORK_SUBMIT, {"v": 2, "what": "?"}, NEWER),
        (subjects.node_subject("a", "failed"), {"v": 2, "item": 1}, NEWER),
    ],
)
def test_one_that_cannot_is_set_aside(subject: str, body: dict[str, Any], reason: str) -> None:
    assert parsed(subject, body) == Refused(reason)


@given(st.sampled_from([None, True, "2", 2.5, [], {}, -1, 10**30]))
def test_whatever_the_version_is(version: object) -> None:
    assert isinstance(parsed(subjects.WORK_COMPLETED, {**COMPLETED, "v": version}), work.Completed)
    assert isinstance(parsed(subjects.WORK_COMPLETED, {"v": version}), Refused)


def test_a_decision_of_today_is_not_newer() -> None:
    assert isinstance(parsed(subjects.WORK_DECIDED, {"decision": "lead", "by": "a", "v": 2}), Decided)


def test_what_is_set_aside_is_counted_and_the_fold_goes_on() -> None:
    state = WorkState(Limits())
    submit = {"work_type": "inference", "work_id": "mine"}
    for seq, body in enumerate(({"v": 2, "shape": "of tomorrow"}, submit), start=1):
        state.apply(Record(seq, 0.0, subjects.WORK_SUBMIT, wire_json.dump(body)))
    assert state.ignored == {NEWER: 1}
    assert list(state.items) == ["mine"]
