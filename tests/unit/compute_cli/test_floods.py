"""Who is kept out: an honest node never, however busy; a flood within a look or two."""

from hypothesis import given
from hypothesis import strategies as st

from compute_cli.flood_watch import messages_of
from compute_cli.floods import BURST, FIRST_HOLD_SECONDS, LONGEST_HOLD_SECONDS, MESSAGES_PER_SECOND, Floods


@given(st.lists(st.tuples(st.floats(0.05, 5.0), st.floats(0.0, 1.0)), max_size=50))
def test_who_stays_below_the_rate_is_never_kept_out(steps: list[tuple[float, float]]) -> None:
    floods, now, total = Floods(), 0.0, 0
    floods.step({"box": total}, now)
    for seconds, share in steps:
        now += seconds
        total += int(seconds * share * MESSAGES_PER_SECOND)
        assert floods.step({"box": total}, now) == {}


def test_a_flood_is_kept_out_and_nobody_else() -> None:
    floods = Floods()
    assert floods.step({"evil": 0, "box": 10**9}, 0.0) == {}  # whoever spoke before we looked
    assert floods.step({"evil": 100_000, "box": 10**9 + 800}, 0.25) == {"evil": FIRST_HOLD_SECONDS}


def test_a_burst_passes() -> None:
    floods = Floods()
    floods.step({"box": 0}, 0.0)
    assert floods.step({"box": int(BURST)}, 0.25) == {}
    assert floods.step({"box": int(BURST * 2.5)}, 0.5) != {}


def test_each_time_is_twice_as_long_up_to_an_hour() -> None:
    floods, holds = Floods(), list[float]()
    for turn in range(20):
        holds += floods.step({"evil": turn * 10**6}, float(turn)).values()
    assert holds[:3] == [60.0, 120.0, 240.0]
    assert holds[-1] == LONGEST_HOLD_SECONDS


def test_a_new_server_counts_from_nought() -> None:
    floods = Floods()
    floods.step({"box": 10**9}, 0.0)
    assert floods.step({"box": 5}, 1.0) == {}


def test_only_node_accounts_are_counted() -> None:
    accounts = [
        {"acc": "COMPUTE", "received": {"msgs": 9}},
        {"acc": "node-a=2Eb", "received": {"msgs": 7}},
        {"acc": "node-c"},
    ]
    assert messages_of({"data": {"account_statz": accounts}}) == {"a.b": 7, "c": 0}
    assert messages_of({}) == {}
