"""The whole cluster under seeded chaos. CHAOS_SECONDS=600 for the long run, CHAOS_SEED for another plan."""

import asyncio
import os
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.faults.chaos.cluster import Cluster, cluster
from tests.faults.chaos.run import ChaosRun
from tests.faults.chaos.verdict import leaks
from tests.support.suite import demo_model, has_engine

SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "27"))
GAP = float(os.environ.get("CHAOS_GAP", "2" if SECONDS < 60 else "5"))
NAMESPACES = os.environ.get("CHAOS_LOOPBACK") != "1"
HEALED_SECONDS = 30.0


async def a_leak_and_a_stray_are_found_out(own: Cluster) -> None:
    """The judge sees memory that nobody has, and an engine that no record names."""
    marked = {**os.environ, "COMPUTE_ENGINE_OWNER": f"host-0 {own.home / 'host-0'}"}
    stray = await asyncio.create_subprocess_exec("sleep", "60", env=marked)
    try:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            url = f"{own.machines[0].urls['gpu-orchestrator']}/api/v1/gpu/reserve"
            body = {"gpu_indices": [], "required_mb": 1, "owner": "nobody"}
            assert (await client.post(url, json=body)).status_code == 201
            found = await leaks(own, client)
        assert any("its instances have" in each for each in found), found
        assert any(each.startswith("engines") for each in found), found
    finally:
        stray.kill()
        await stray.wait()


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nats-py, when it is refused
async def test_what_is_accepted_is_finished_and_nothing_is_left_behind(tmp_path: Path) -> None:
    if demo_model() is None or not has_engine():
        pytest.skip("needs the wheels of llama-server and its small model")
    async with cluster(tmp_path / "chaos", namespaces=NAMESPACES) as (own, where):
        run = ChaosRun(own, SEED, SECONDS, GAP)
        await run.play()
        if not run.complaints:
            await a_leak_and_a_stray_are_found_out(own)
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
