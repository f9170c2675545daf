"""Cordons, yields and daily quiet hours: pure."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_common.problems import Problem
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.orders import Orders, Source, Yield
from gpu_orchestrator.quiet_hours import parse_quiet_hours, quiet_until
from tests.unit.gpu_orchestrator.ledgers import T0, ask, gpu, host

SOON = T0 + timedelta(hours=3)


def test_a_refusal_says_whose_it_is_and_until_when() -> None:
    ledger = Ledger(orders=Orders(yields=(Yield("GPU-1", SOON, Source.QUIET_HOURS),)))
    devices = host(gpu(0), gpu(1))
    with pytest.raises(Problem, match="GPU 1 is yielded to its owner") as refused:
        ledger.reserve(ask(0, 1), devices, T0, "a")
    assert refused.value.status == 409
    assert refused.value.cause == "yielded"
    assert refused.value.extra["devices"] == [
        {"gpu_index": 1, "until": "2026-11-01T03:00:00Z", "source": "quiet hours"}
    ]
    assert ledger.entries == {}
    assert ledger.reserve(ask(0), devices, T0, "b").gpu_indices == (0,)


def test_ram_is_yielded_like_a_card() -> None:
    ledger = Ledger(orders=Orders(yields=(Yield(RAM, None),)))
    devices = host(ram_mb=1000)
    assert ledger.balance(devices[RAM]).available_mb == 0
    with pytest.raises(Problem, match="host RAM is yielded to its owner"):
        ledger.reserve(ask(mb=1), devices, T0, "a")


def test_a_yield_ends_at_its_deadline_and_a_cordon_does_not() -> None:
    ledger = Ledger(orders=Orders(frozenset({"GPU-0"}), (Yield("GPU-0", SOON), Yield("GPU-1", None))))
    assert ledger.end_yields(SOON - timedelta(microseconds=1)) == []
    assert ledger.end_yields(SOON) == [Yield("GPU-0", SOON)]
    assert ledger.cordoned == {"GPU-0", "GPU-1"}


def test_the_last_word_on_a_device_counts() -> None:
    orders = Orders(yields=(Yield("GPU-0", SOON), Yield("GPU-1", SOON))).with_yields([Yield("GPU-0", None)])
    assert set(orders.yields) == {Yield("GPU-0", None), Yield("GPU-1", SOON)}
    assert orders.without_yields(["GPU-0", "GPU-9"]).out == {"GPU-1"}


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        ("18:00-23:00", "2026-11-23T18:00", "2026-11-23T23:00"),
        ("18:00-23:00", "2026-11-23T23:00", None),
        ("18:00-23:00", "2026-11-23T17:59", None),
        ("22:00-06:00", "2026-11-23T23:30", "2026-11-24T06:00"),
        ("22:00-06:00", "2026-11-24T05:59", "2026-11-24T06:00"),
        ("18:00-23:00, 22:30-06:00", "2026-11-23T18:30", "2026-11-24T06:00"),
        ("18:00-24:00,00:00-02:00", "2026-11-23T20:00", "2026-11-24T02:00"),
        ("06:00-07:00,18:00-19:00", "2026-11-23T18:10", "2026-11-23T19:00"),
        ("", "2026-11-23T18:10", None),
    ],
)
def test_quiet_hours(hours: str, now: str, end: str | None) -> None:
    found = quiet_until(parse_quiet_hours(hours), datetime.fromisoformat(now))
    assert found == (None if end is None else datetime.fromisoformat(end))


@pytest.mark.parametrize("text", ["18-23", "25:00-26:00", "18:60-19:00", "10:00-10:00", "24:00-01:00", "x"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        parse_quiet_hours(text)


MINUTES = st.integers(0, 1439)


@given(st.lists(st.tuples(MINUTES, MINUTES).filter(lambda pair: pair[0] != pair[1]), max_size=4), MINUTES)
def test_quiet_time_against_a_day_of_minutes(pairs: list[tuple[int, int]], minute: int) -> None:
    """Every minute is quiet that lies in a range, and the end is the first one that does not."""
    quiet = [any((m - a) % 1440 < (b - a) % 1440 for a, b in pairs) for m in range(1440)]
    text = ",".join(f"{a // 60:02}:{a % 60:02}-{b // 60:02}:{b % 60:02}" for a, b in pairs)
    now = datetime.fromisoformat("2026-11-23T00:00") + timedelta(minutes=minute)
    end = quiet_until(parse_quiet_hours(text), now)
    assert (end is not None) == quiet[minute]
    if end is not None and not all(quiet):
        expected = next(step for step in range(1, 1441) if not quiet[(minute + step) % 1440])
        assert end == now + timedelta(minutes=expected)
