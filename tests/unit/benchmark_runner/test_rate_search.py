"""The highest rate that keeps an SLO, against servers whose limit is known."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_runner.rate_search import CEILING, PROBES, Probe, next_rate, outcome

WANTED = 0.9


def search(server: Callable[[float], Probe]) -> list[Probe]:
    probes: list[Probe] = []
    while (rate := next_rate(1.0, probes, WANTED)) is not None:
        probes.append(server(rate))
        assert len(probes) <= PROBES
    return probes


@given(st.floats(0.05, 300))
def test_the_limit_is_found_within_a_tenth(limit: float) -> None:
    probes = search(lambda rate: Probe(rate, 1.0 if rate <= limit else 0.1))
    found = outcome(512, probes, WANTED)
    assert found.limited_by == "slo"
    assert limit / 1.25 <= found.requests_per_s <= limit + 1e-9 or len(probes) == PROBES
    assert found.requests_per_s <= limit


def test_a_server_that_keeps_nothing_gives_zero_and_ends() -> None:
    found = outcome(512, search(lambda rate: Probe(rate, 0.0)), WANTED)
    assert (found.requests_per_s, found.limited_by) == (0, "slo")


def test_without_a_limit_the_ceiling_is_named() -> None:
    probes = search(lambda rate: Probe(rate, 1.0))
    assert max(probe.rate for probe in probes) <= CEILING
    assert outcome(512, probes, WANTED).limited_by == "ceiling"


def test_a_late_generator_is_named_and_nothing_above_it_counts() -> None:
    probes = search(lambda rate: Probe(rate, 1.0, valid=rate < 5))
    found = outcome(512, probes, WANTED)
    assert found.limited_by == "generator"
    assert found.requests_per_s < 5


def test_a_lucky_rate_above_a_broken_one_proves_nothing() -> None:
    probes = [Probe(1, 1.0), Probe(4, 0.5), Probe(8, 1.0)]
    assert outcome(1, probes, WANTED).requests_per_s == pytest.approx(1)
