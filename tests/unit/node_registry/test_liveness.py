"""Four of the node's own beats and a second, by the registry's clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.enums import NodeStatus
from node_registry.liveness import Life, allowed_silence, beaten
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, beat, document


def events(table: NodeTable, seconds: float, hearing: bool = True) -> list[str]:
    return [change.event for change in table.tick(at(seconds).mono, hearing)]


def test_declared_beat() -> None:
    table = NodeTable()
    table.announce(document(heartbeat_seconds=5), at(0))
    assert events(table, 20.9) == []
    assert events(table, 21.1) == ["offline"]
    assert events(table, 30) == []
    node = table.node("n1")
    assert node is not None
    assert node.status is NodeStatus.OFFLINE
    assert not node.is_online


def test_never_beat_has_the_register_ttl() -> None:
    table = NodeTable(register_ttl_seconds=600)
    table.announce(document(), at(0))
    assert table.offline_after_seconds("n1") == 600
    assert events(table, 599) == []
    assert events(table, 601) == ["offline"]


@pytest.mark.parametrize("period", [1, 5, 15, 30])
@pytest.mark.parametrize("first", [0.01, 3, 30])
def test_documented_beaters_never_flap(period: float, first: float) -> None:
    """Clients that declare nothing and beat every 15 or 30 s stay up from their first beat on."""
    table = NodeTable()
    table.announce(document(), at(0))
    now = 0.0
    due = first
    while now < 300:
        now += 0.25
        if now >= due:
            table.heartbeat(beat(), at(now))
            due += period
        assert events(table, now) == [], f"offline at {now}"


def test_a_learned_beat_gives_its_own_deadline() -> None:
    table = NodeTable()
    table.announce(document(), at(0))
    for second in (0, 15, 30, 45):
        table.heartbeat(beat(), at(second))
    assert events(table, 45 + 60) == []
    assert events(table, 45 + 61.5) == ["offline"]


def test_quick_beats_are_held_to_the_default() -> None:
    life = Life(last_seen=0.0)
    for tick in range(10):
        life = beaten(life, float(tick), by_bus=True)
    assert allowed_silence(None, life, 600) == 21


def test_back_within_one_heartbeat() -> None:
    table = NodeTable()
    table.announce(document(heartbeat_seconds=1), at(0))
    assert events(table, 6) == ["offline"]
    changes = table.heartbeat(beat(), at(7))
    assert changes is not None
    assert [change.event for change in changes] == ["joined"]


def test_work_is_a_sign_of_life() -> None:
    table = NodeTable()
    table.announce(document(heartbeat_seconds=1), at(0))
    table.sign_of_life("n1", at(4))
    assert events(table, 8) == []
    assert table.sign_of_life("stranger", at(4)) == []
    assert "stranger" not in table


def test_an_outage_of_nats_blames_nobody() -> None:
    table = NodeTable()
    table.announce(document("by-bus", heartbeat_seconds=1), at(0))
    table.announce(document("by-http", heartbeat_seconds=1), at(0, by_bus=False))
    assert events(table, 2, hearing=False) == []
    assert [c.node_id for c in table.tick(at(60).mono, hearing=False)] == ["by-http"]
    assert events(table, 60.2) == [], "the outage does not count"
    assert events(table, 64) == ["offline"], "what was left of the deadline does"


@given(st.lists(st.floats(0.001, 5000), max_size=30))
def test_the_deadline_is_never_shorter_than_the_default(gaps: list[float]) -> None:
    life, now = Life(last_seen=0.0), 0.0
    for gap in gaps:
        now += gap
        life = beaten(life, now, by_bus=True)
    assert 21 <= allowed_silence(None, life, 600) <= 2401
