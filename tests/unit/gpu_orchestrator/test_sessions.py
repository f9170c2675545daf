"""Who still holds a bound reservation."""

from gpu_orchestrator.entries import Holder
from gpu_orchestrator.sessions import Process, members

ENGINE = Holder("boot", pid=10, start_ticks=100, session_id=10)


def table(*rows: tuple[int, int, int, int]) -> dict[int, Process]:
    return {row[0]: Process(*row) for row in rows}


def test_the_session_and_all_descendants() -> None:
    found = table((10, 1, 10, 100), (11, 10, 10, 101), (12, 11, 12, 102), (50, 1, 50, 9))
    assert members(ENGINE, found, "boot") == {10, 11, 12}


def test_orphans_of_a_dead_leader_count() -> None:
    assert members(ENGINE, table((11, 1, 10, 101)), "boot") == {11}


def test_a_reused_pid_is_somebody_else() -> None:
    assert members(ENGINE, table((10, 1, 10, 999), (11, 10, 10, 1000)), "boot") == frozenset()


def test_nothing_survives_a_reboot() -> None:
    assert members(ENGINE, table((10, 1, 10, 100)), "another boot") == frozenset()


def test_without_its_own_session_only_the_tree_counts() -> None:
    holder = Holder("boot", pid=10, start_ticks=100)
    found = table((10, 5, 5, 100), (11, 10, 5, 101), (12, 5, 5, 90))
    assert members(holder, found, "boot") == {10, 11}


def test_a_container_is_known_by_its_id() -> None:
    processes = {
        pid: Process(pid, 1, pid, 1, frozenset(containers))
        for pid, containers in ((7, {"c1"}), (8, {"c2"}), (9, set[str]()), (10, {"outer", "c1"}))
    }
    assert members(Holder("boot", container_id="c1"), processes, "boot") == {7, 10}


def test_a_member_that_left_the_session_still_counts() -> None:
    """A daemon: it led its own session before its parent died."""
    left = table((12, 1, 12, 102), (13, 12, 12, 103))
    assert members(ENGINE, left, "boot") == frozenset()
    assert members(ENGINE, left, "boot", seen={10: 100, 12: 102}) == {12, 13}


def test_a_member_seen_before_whose_pid_is_used_again_does_not() -> None:
    assert members(ENGINE, table((12, 1, 12, 999)), "boot", seen={10: 100, 12: 102}) == frozenset()
