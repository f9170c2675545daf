"""Memory that moves under the ledger's feet: programs that nobody registered, and engines that outgrow."""

import asyncio
from pathlib import Path

from tests.integration.gpu_orchestrator.played import MARGIN_MB, engine, played_host, using
from tests.support.nvml import scenarios
from tests.support.nvml.scenarios import h100_x8, unlike_pair
from tests.support.waiting import until

TOTAL = 24_564
DRIVER = 600


async def test_use_of_a_bound_engine_counts_once_and_of_a_stranger_always(
    nvml_library: Path, tmp_path: Path
) -> None:
    machine = unlike_pair()
    with engine() as ours, engine() as stranger:
        async with played_host(nvml_library, machine, tmp_path) as host:
            name = await host.reserved(10_000, 0)
            assert (await host.bind(name, pid=ours.pid)).status_code == 200
            host.played.change(using(machine, 0, {ours.pid: 8_000}))
            left = TOTAL - 10_000 - DRIVER - MARGIN_MB
            await host.until_gpu(0, used_mb=8_600, foreign_mb=DRIVER, available_mb=left)

            both = {ours.pid: 8_000, stranger.pid: 3_000}
            host.played.change(using(machine, 0, both))
            left = TOTAL - 10_000 - 3_000 - DRIVER - MARGIN_MB
            await host.until_gpu(0, foreign_mb=3_600, available_mb=left)
            assert (await host.reserve(left + 1, 0)).status_code == 409
            listed = sorted((await host.gpu(0))["processes"], key=lambda each: each["used_mb"])
            assert listed == [
                {"pid": stranger.pid, "used_mb": 3_000, "name": "sleep", "reservation_id": None},
                {"pid": ours.pid, "used_mb": 8_000, "name": "sleep", "reservation_id": name},
            ]
            assert (await host.reservation(name))["used_mb"] == 8_000

            outgrown = {ours.pid: 12_000, stranger.pid: 1_000}
            host.played.change(using(machine, 0, outgrown))
            await host.until_gpu(0, foreign_mb=1_600, available_mb=TOTAL - 12_000 - 1_600 - MARGIN_MB)

            host.played.change(using(machine, 0, {ours.pid: 12_000}))
            await host.until_gpu(0, foreign_mb=DRIVER, available_mb=TOTAL - 12_000 - DRIVER - MARGIN_MB)


async def test_an_outgrown_reservation_does_not_eat_an_unused_one(nvml_library: Path, tmp_path: Path) -> None:
    """10,000 promised to one that uses none yet, 5,000 to one that uses 9,000: 19,000 are gone."""
    machine = unlike_pair()
    with engine() as greedy, engine() as waiting:
        async with played_host(nvml_library, machine, tmp_path) as host:
            for pid, size in ((greedy.pid, 5_000), (waiting.pid, 10_000)):
                assert (await host.bind(await host.reserved(size, 0), pid=pid)).status_code == 200
            host.played.change(using(machine, 0, {greedy.pid: 9_000}))
            await host.until_gpu(0, available_mb=TOTAL - 19_000 - DRIVER - MARGIN_MB)


async def test_a_reserve_looks_anew_when_the_last_look_is_old(nvml_library: Path, tmp_path: Path) -> None:
    """Polled once a minute, and yet what a stranger took half a second ago is not given away."""
    machine = unlike_pair()
    async with played_host(nvml_library, machine, tmp_path, {"GPU_POLL_SECONDS": "60"}) as host:
        assert (await host.gpu(0))["used_mb"] == DRIVER
        host.played.change(scenarios.resized(machine, 0, TOTAL, used_mib=20_000))
        await asyncio.sleep(0.3)  # a look may be this old, not older
        refused = await host.reserve(10_000, 0)
        assert refused.status_code == 409
        assert refused.json()["shortfall"] == [
            {
                "device": "GPU 0",
                "gpu_index": 0,
                "required_mb": 10_000,
                "available_mb": TOTAL - 20_000 - MARGIN_MB,
                "shortfall_mb": 10_000 - (TOTAL - 20_000 - MARGIN_MB),
            }
        ]
        assert refused.json()["would_fit"]["gpu_indices"] == [1]


async def test_released_while_its_engine_still_holds_memory(nvml_library: Path, tmp_path: Path) -> None:
    machine = unlike_pair()
    with engine() as ours:
        async with played_host(nvml_library, machine, tmp_path) as host:
            name = await host.reserved(10_000, 0)
            await host.bind(name, pid=ours.pid)
            host.played.change(using(machine, 0, {ours.pid: 9_000}))
            await host.until_gpu(0, used_mb=9_600, foreign_mb=DRIVER)
            assert (await host.client.delete(f"/api/v1/gpu/reservations/{name}")).status_code == 204
            await host.until_gpu(0, reserved_mb=0, foreign_mb=9_600)


async def test_nvlink_sets_are_chosen_and_named(nvml_library: Path, tmp_path: Path) -> None:
    async with played_host(nvml_library, scenarios.bridged_pair(), tmp_path) as host:
        ask = {"required_mb": 1_000, "gpu_count": 2, "prefer_nvlink": True}
        fit = (await host.client.post("/api/v1/gpu/can-fit", json=ask)).json()
        assert (fit["gpu_indices"], fit["linked_pairs"]) == ([0, 1], [[0, 1]])
        assert fit["reason"].endswith("every pair is linked: 0-1 (nvlink ×3)")
        assert [link["to"] for link in (await host.gpu(0))["links"]] == [1]
        big = {"required_mb": 30_000, "gpu_count": 2, "prefer_nvlink": True}
        fit = (await host.client.post("/api/v1/gpu/can-fit", json=big)).json()
        assert not fit["fits"]
        assert [each["gpu_index"] for each in fit["shortfall"]] == [1, 0, 2]
        assert fit["shortfall"][0]["shortfall_mb"] == 30_000 - (24_576 - DRIVER - MARGIN_MB)


async def test_a_linked_pair_that_is_full_is_left_for_one_across(nvml_library: Path, tmp_path: Path) -> None:
    """On a switch every set is linked, so the fullest that fit are taken."""
    machine = scenarios.resized(h100_x8(), 5, 81_559, used_mib=30_000)
    async with played_host(nvml_library, machine, tmp_path) as host:
        ask = {"required_mb": 40_000, "gpu_count": 2, "prefer_nvlink": True}

        async def chosen() -> bool:
            fit = (await host.client.post("/api/v1/gpu/can-fit", json=ask)).json()
            return fit["gpu_indices"] == [0, 5] and "nvswitch ×18" in fit["reason"]

        await until(chosen)
