"""Six kinds of growth, twenty of each: leaks are foretold a minute ahead, the others are never an alarm."""

from functools import cache

import pytest

from tests.support.forecast_trials import SEEDS, Trial, simulate, table
from tests.support.growth import KINDS

LEAKS = [name for name, kind in KINDS.items() if kind.leaks]
OTHERS = [name for name, kind in KINDS.items() if not kind.leaks]


@cache
def trials(name: str) -> tuple[Trial, ...]:
    return tuple(simulate(KINDS[name], seed) for seed in SEEDS)


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_foretold_a_minute_ahead(name: str) -> None:
    leads = [trial.lead for trial in trials(name)]
    assert sum(lead is not None and lead >= 60 for lead in leads) >= 0.95 * len(leads), table(trials(name))
    assert all(trial.first_alarm is None or trial.first_alarm > 0 for trial in trials(name)), "calm at first"


@pytest.mark.parametrize("name", OTHERS)
def test_what_stops_by_itself_is_no_alarm(name: str) -> None:
    assert all(trial.killed is None for trial in trials(name))
    assert [trial for trial in trials(name) if trial.first_alarm is not None] == []


def test_a_trial_can_be_run_again() -> None:
    assert simulate(KINDS["model load"], 3) == trials("model load")[3]
