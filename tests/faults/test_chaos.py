"""The whole cluster under seeded chaos. CHAOS_SECONDS=600 for the long run, CHAOS_SEED for another plan."""

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.chaos.cluster import cluster
from tests.faults.chaos.run import ChaosRun
from tests.support.suite import demo_model, has_engine

SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "27"))
GAP = float(os.environ.get("CHAOS_GAP", "2" if SECONDS < 60 else "5"))
NAMESPACES = os.environ.get("CHAOS_LOOPBACK") != "1"
HEALED_SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(SECONDS + 600)
async def test_what_is_accepted_is_finished_and_nothing_is_left_behind(tmp_path: Path) -> None:
    if demo_model() is None or not has_engine():
        pytest.skip("needs the wheels of llama-server and its small model")
    async with cluster(tmp_path / "chaos", namespaces=NAMESPACES) as (own, where):
        run = ChaosRun(own, SEED, SECONDS, GAP)
        await run.play()
    left = own.kill_all()
    faults = Counter(f"{each.act} {each.target.split('/')[-1].split(' ')[0]}" for each in run.faults)
    print(f"\nseed {SEED}, {where}: {len(run.faults)} faults ({len(run.missed)} met nothing), {dict(faults)}")
    print(f"{len(run.load.accepted)} accepted of {len(run.load.kinds)}: {dict(run.load.answers)}")
    print(f"healthy {run.healed_seconds:.1f} s after the last fault")
    told = "\n".join(map(str, run.faults))
    assert run.complaints == [], f"again with CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}:\n{told}"
    assert left == []
    assert len(run.load.accepted) > SECONDS
    assert run.healed_seconds <= HEALED_SECONDS, told
