"""One real leak in a real control group, until the kernel kills it. The others are in `make bench`."""

from pathlib import Path

import pytest

from tests.support.cgroup import NoGroupError
from tests.support.growth import KINDS
from tests.support.real_trials import RealTrial

# 256 s from the first growth to the kill: long enough for a minute of lead after the minute and a half that
# any forecast needs. Twelve times as fast, for clock and leak alike, it is over in half a minute.
SEED, PACE = 2, 12


async def test_a_real_leak_is_foretold_a_minute_before_the_kernel_kills(tmp_path: Path) -> None:
    try:
        trial = await RealTrial(KINDS["linear leak"], SEED, tmp_path, PACE).run()
    except NoGroupError as error:
        pytest.skip(str(error))
    assert trial.killed is not None
    assert trial.lead is not None
    assert trial.lead >= 60, trial
    assert trial.first_alarm == trial.warned, "one alarm, and it stayed"
