"""Reminders: never too late, each node looked at once."""

from hypothesis import given
from hypothesis import strategies as st

from node_registry.deadlines import Deadlines
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document


def test_an_earlier_reminder_wins() -> None:
    deadlines = Deadlines()
    deadlines.remind("n", 10)
    deadlines.remind("n", 5)
    deadlines.remind("n", 20)
    assert deadlines.due(5) == []
    assert deadlines.due(6) == ["n"]
    assert deadlines.due(100) == []
    deadlines.remind("n", 30)
    assert deadlines.due(31) == ["n"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 30)), max_size=30))
def test_a_silent_node_is_offline_at_its_deadline_and_not_before(steps: list[tuple[str, float]]) -> None:
    table, now = NodeTable(), 0.0
    for name in "abc":
        table.announce(document(name, heartbeat_seconds=5), at(0))
    heard = dict.fromkeys("abc", 0.0)
    for name, pause in steps:
        now += pause
        table.tick(at(now).mono)
        for node_id, last in heard.items():
            row = table.row(node_id)
            assert row is not None
            assert row.is_online == (now - last <= 21), (node_id, now, last)
        table.heartbeat(beat(name), at(now))
        heard[name] = now


def test_a_deaf_time_keeps_the_reminder() -> None:
    table = NodeTable()
    table.announce(document(heartbeat_seconds=1), at(0))
    assert table.tick(at(3).mono, hearing=False) == []
    assert table.tick(at(7).mono, hearing=False) == []
    assert table.tick(at(7.1).mono) == []
    assert [change.event for change in table.tick(at(20).mono)] == ["offline"]
