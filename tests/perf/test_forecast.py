"""The memory forecast over memory that really grows, two of each kind side by side, at the clock's pace."""

from pathlib import Path

import pytest

from tests.perf.forecast_table import real, simulated
from tests.support.cgroup import NoGroupError
from tests.support.forecast_trials import SEEDS, table


def test_simulated() -> None:
    trials = simulated(SEEDS)
    print(f"\n{table(trials)}")
    leads = [trial.lead for trial in trials if trial.lead is not None]
    assert sum(lead >= 60 for lead in leads) >= 0.95 * len(leads)


@pytest.mark.timeout(900)
async def test_real_growth(tmp_path: Path) -> None:
    try:
        trials = await real(tmp_path)
    except NoGroupError as error:
        pytest.skip(str(error))
    print(f"\n{table(trials)}")
    leaks = [trial for trial in trials if trial.killed is not None]
    assert len(leaks) == len(trials) / 2
    assert [trial for trial in leaks if (trial.lead or 0) < 60] == []
    assert [trial for trial in trials if trial.killed is None and trial.first_alarm is not None] == []
