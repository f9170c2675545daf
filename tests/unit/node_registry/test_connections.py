"""Whose connection is gone for good, and who is merely cut."""

from node_registry.connections import GRACE_SECONDS, Connections
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document

A, B = ("server", 1), ("server", 2)


def names(connections: Connections, now: float) -> list[str]:
    return [name for name, _since in connections.gone(now)]


def test_a_lost_connection_is_told_once_after_the_grace_time() -> None:
    known = Connections()
    known.opened("n1", A)
    known.closed("n1", A, lived_seconds=60, now=100)
    assert names(known, 100 + GRACE_SECONDS - 0.1) == []
    assert known.gone(100 + GRACE_SECONDS) == [("n1", 100)]
    assert names(known, 200) == []


def test_back_in_time_or_held_by_another_connection() -> None:
    known = Connections()
    known.opened("n1", A)
    known.closed("n1", A, lived_seconds=60, now=100)
    known.opened("n1", B)
    assert names(known, 110) == []
    known.opened("n1", A)
    known.closed("n1", B, lived_seconds=60, now=120)
    assert names(known, 130) == []
    known.closed("n1", A, lived_seconds=60, now=140)
    assert names(known, 150) == ["n1"]


def test_what_was_open_before_counts_and_what_closed_meanwhile_does_not() -> None:
    known = Connections()
    known.begin()
    known.closed("n1", B, lived_seconds=60, now=100)
    known.listed([("n1", A), ("n1", B)])
    known.closed("n1", A, lived_seconds=60, now=101)
    assert names(known, 110) == ["n1"]


def test_a_connection_for_one_message_is_no_presence() -> None:
    known = Connections()
    known.opened("n1", A)
    known.closed("n1", A, lived_seconds=0.2, now=100)
    assert names(known, 110) == []


def test_a_server_that_restarts_blames_nobody() -> None:
    known = Connections()
    known.opened("n1", A)
    known.closed("n1", A, lived_seconds=60, now=100)
    known.begin()
    assert names(known, 110) == []


def test_a_node_heard_after_its_connection_ended_stays() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    table.heartbeat(beat(), at(5))
    assert table.connection_lost("n1", at(4).mono) == []
    assert [change.event for change in table.connection_lost("n1", at(6).mono)] == ["offline"]
    assert table.connection_lost("n1", at(7).mono) == []
    assert table.connection_lost("stranger", at(7).mono) == []
    assert [change.event for change in table.heartbeat(beat(), at(8)) or []] == ["joined"]
