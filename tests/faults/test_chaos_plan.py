"""Plans of chaos: a seed is a plan, all in its time, and seeds together strike everything."""

from tests.faults.chaos.plan import ACTS, CLOCKS, COPIES, HOSTS, LONGEST_STOP_SECONDS, ON_HOST, plan


def test_a_seed_is_a_plan() -> None:
    assert plan(3, 60, 2) == plan(3, 60, 2) != plan(4, 60, 2)


def test_all_is_over_in_time() -> None:
    for seed in range(50):
        faults = plan(seed, 30, 2)
        assert [each.at for each in faults] == sorted(each.at for each in faults)
        assert all(each.at >= 0 and each.at + each.seconds <= 30.0001 for each in faults)
        assert all(each.seconds <= LONGEST_STOP_SECONDS for each in faults if each.act == "stop")
        for part, act in ACTS.items():
            assert all((each.act == act) == each.target.endswith(f"/{part}") for each in faults)
        assert all((each.by != 0) == (each.act in ("shift", "slow")) for each in faults)


def test_nothing_is_spared() -> None:
    struck = {each.target for seed in range(100) for each in plan(seed, 600, 5)}
    centre = {f"{name} {copy}" for name, count in COPIES.items() for copy in range(count)}
    clocks = {f"{name} {copy}/clock" for name in CLOCKS for copy in range(COPIES[name])}
    assert struck == centre | clocks | {f"host {host}/{name}" for host in range(HOSTS) for name in ON_HOST}
