"""Who is asked to announce again, and how loudly."""

from hypothesis import given
from hypothesis import strategies as st

from node_registry.asks import (
    AGAIN_SECONDS,
    ALOUD_PER_SECOND,
    ASKED_PER_SECOND,
    LONGEST_SPREAD_SECONDS,
    SHORTEST_SPREAD_SECONDS,
    Asks,
)


def asked(asks: Asks, count: int, now: float, prefix: str = "n") -> int:
    return sum(asks.may_ask(f"{prefix}{number}", now) for number in range(count))


def test_one_stranger_is_asked_now_and_again_later() -> None:
    asks = Asks()
    assert asks.may_ask("n1", 100.0)
    assert asks.may_ask_aloud()
    assert not asks.may_ask("n1", 100.0 + AGAIN_SECONDS / 2)
    assert asks.may_ask("n1", 100.0 + AGAIN_SECONDS)


def test_of_thousands_few_are_asked_aloud_and_some_hundred_at_all() -> None:
    asks = Asks()
    aloud = sum(asks.may_ask(f"n{number}", 100.0) and asks.may_ask_aloud() for number in range(2000))
    assert aloud == ALOUD_PER_SECOND
    assert asked(asks, 2000, 101.0, "m") == ASKED_PER_SECOND


def test_while_all_answer_nobody_is_hurried() -> None:
    asks = Asks()
    spread = asks.everybody(10_000, 100.0)
    assert asked(asks, 2000, 100.5) == ALOUD_PER_SECOND
    assert asked(asks, 2000, 100.0 + spread + AGAIN_SECONDS) == ASKED_PER_SECOND


def test_while_the_store_is_read_strangers_wait() -> None:
    asks = Asks()
    asks.reading(100.0)
    assert asked(asks, 2000, 101.0) == ALOUD_PER_SECOND
    asks.listen()
    asks.everybody(0, 102.0)
    assert asked(asks, 2000, 109.0) == ASKED_PER_SECOND


def test_while_announcements_come_in_by_the_hundred_nobody_is_hurried() -> None:
    asks = Asks()
    for _node in range(99):
        asks.joined(100.0)
    assert asked(asks, 2000, 100.1, "a") == ASKED_PER_SECOND
    asks.joined(100.9)
    assert asked(asks, 2000, 101.0, "b") == ALOUD_PER_SECOND
    assert asked(asks, 2000, 103.0, "c") == ASKED_PER_SECOND


def test_strangers_that_beat_tell_how_many_there_are() -> None:
    asks = Asks()
    asks.listen()
    assert asks.everybody(3, 100.0) == SHORTEST_SPREAD_SECONDS
    asks.listen()
    asked(asks, 500, 101.0)  # of ten thousand in a quarter of a second
    assert asks.everybody(0, 101.25) == 5.0
    asks.listen()
    assert asks.everybody(0, 102.0) == SHORTEST_SPREAD_SECONDS


@given(st.integers(0, 1_000_000))
def test_the_spread_stays_within_its_bounds(known: int) -> None:
    assert SHORTEST_SPREAD_SECONDS <= Asks().everybody(known, 0.0) <= LONGEST_SPREAD_SECONDS


def test_made_up_names_fill_no_memory() -> None:
    asks = Asks()
    asked(asks, 30_000, 100.0)
    assert len(asks._asked) <= 10_000
