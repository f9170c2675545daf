"""Rates from counters."""

from node_registry.status.throughput import Throughput


def counters(done: int, failed: int = 0) -> dict[str, int]:
    return {"total_requests": 2 * done, "completed": done, "failed": failed, "pending": 3}


def test_none_before_two_readings_lie_apart_then_per_minute() -> None:
    rates = Throughput()
    assert rates.rate(0) is None
    rates.read(counters(10), 0)
    rates.read(counters(11), 1)
    assert rates.rate(1) is None
    rates.read(counters(20, 1), 5)
    rate = rates.rate(5)
    assert rate is not None
    assert (rate.completed_per_min, rate.submitted_per_min, rate.failed_per_min) == (120, 240, 12)


def test_only_the_last_minute_counts() -> None:
    rates = Throughput()
    for second in range(0, 200, 5):
        rates.read(counters(min(100, second)), second)
    rate = rates.rate(196)
    assert rate is not None
    assert rate.completed_per_min == 0
    assert rate.over_seconds <= 65


def test_counters_that_fall_begin_anew_and_old_ones_tell_nothing() -> None:
    rates = Throughput()
    rates.read(counters(100), 0)
    rates.read(counters(5), 5)
    assert rates.rate(5) is None
    rates.read(counters(10), 10)
    rate = rates.rate(10)
    assert rate is not None
    assert rate.completed_per_min == 60
    assert rates.rate(60) is None


def test_an_answer_without_counters_is_no_reading() -> None:
    rates = Throughput()
    for at in (0.0, 10.0):
        rates.read({"completed": "many"}, at)
    assert rates.rate(10) is None
