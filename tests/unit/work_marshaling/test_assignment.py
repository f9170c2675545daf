"""What is told quickly, from memory, is what is told carefully."""

from typing import Any

import pytest

from compute_common import wire_json
from compute_common.schemas.work import Assignment
from work_marshaling import deliveries
from work_marshaling.items import Demand, Item

BODIES: list[dict[str, Any]] = [
    {"work_type": "t"},
    {"work_type": "t", "payload": None, "metadata": None, "model_name": None},
    {"workload_type": "t", "model_name": "m", "payload": {"a": [1, "ä"]}, "metadata": {"k": {}}},
]


@pytest.mark.parametrize("body", BODIES)
def test_both_ways_tell_the_same(body: dict[str, Any]) -> None:
    item = Item("w-7", 7, 1000.5, Demand("t", (body.get("model_name") and "m") or None), 3, 60.0)
    item.holder, item.attempt, item.expires_at, item.fenced, item.session = "box", 2, 2000.25, True, "run-1"
    quick = deliveries.assignment_from(item, body, 9, "2026-11-23T14:15:16Z")
    careful = deliveries._assignment(item, body, 9)
    told = Assignment.model_validate_json(wire_json.dump(quick))
    assert told.model_copy(update={"assigned_at": careful.assigned_at}) == careful
    assert set(quick) == set(wire_json.parse_object(wire_json.dump(careful)))
