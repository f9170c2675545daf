"""A lost or failing GPU takes nothing new, flags what is on it, and comes back."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.gpu_orchestrator.played import changed, played_host, told
from tests.support.nvml import GPU_IS_LOST, NOT_SUPPORTED, scenarios
from tests.support.nvml.scenarios import h100_x8
from tests.support.waiting import until


async def test_a_gpu_that_falls_off_the_bus_and_comes_back(nvml_library: Path, tmp_path: Path) -> None:
    machine = h100_x8()
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(10_000, 1, 2)
        before = await host.gpu(1)
        host.played.change(scenarios.lost(1))
        await host.until_gpu(1, health="lost", available_mb=0)
        lost = await host.gpu(1)
        assert (lost["uuid"], lost["total_mb"], lost["reserved_mb"]) == (before["uuid"], 81_559, 10_000)
        assert lost["reservations"] == [name]
        assert (await host.reservation(name))["health"] == "GPU 1 is lost"
        assert len((await host.states())["gpus"]) == 8
        refused = await host.reserve(1_000, 1)
        assert (refused.status_code, refused.json()["gpus"]) == (409, [{"index": 1, "reason": "lost"}])
        assert (await host.reserve(1_000, 0)).status_code == 201
        health = (await host.client.get("/healthz")).json()
        assert "GPU 1 is lost" in str(health)
        host.played.change(machine)
        await host.until_gpu(1, health="ok", reserved_mb=10_000)
        assert (await host.reservation(name))["health"] == "ok"
        assert (await host.reserve(1_000, 1)).status_code == 201


FAILING: list[tuple[dict[str, int | str], str]] = [
    ({"ecc_uncorrected": 3}, "3 uncorrected memory errors"),
    ({"remapped_rows": "1 1 0 1"}, "could not be remapped"),
    ({"remapped_rows": "0 1 1 0"}, "needs a reset to take bad memory out of use"),
    ({"retired_pages_pending": 1}, "needs a reset to take bad memory out of use"),
    ({"recovery_action": 1}, "needs a reset (its driver says)"),
    ({"recovery_action": 2}, "needs a reboot"),
]


async def test_a_failing_gpu_takes_nothing_until_it_is_mended(nvml_library: Path, tmp_path: Path) -> None:
    """What is only counted, or is corrected, is no reason."""
    machine = h100_x8()
    harmless: dict[str, int | str] = {
        "ecc_uncorrected": 0,
        "remapped_rows": "2 0 0 0",
        "retired_pages_pending": 0,
        "recovery_action": 0,
    }
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(10_000, 3)
        for values, reason in FAILING:
            host.played.change(changed(machine, 3, values=told(machine.gpus[3], **values).values))

            async def flagged(reason: str = reason) -> bool:
                return reason in (await host.gpu(3))["health"]

            await until(flagged)
            assert (await host.gpu(3))["available_mb"] == 0
            assert (await host.gpu(3))["used_mb"] == 600, "it still answers"
            refused = await host.reserve(1_000, 3)
            assert (refused.status_code, refused.json()["type"][-14:]) == (409, "gpu-not-usable")
            assert reason in refused.json()["detail"]
            assert reason in (await host.reservation(name))["health"]
        host.played.change(changed(machine, 3, values=told(machine.gpus[3], **harmless).values))
        await host.until_gpu(3, health="ok")
        assert (await host.reserve(1_000, 3)).status_code == 201


async def test_a_critical_xid_and_one_of_a_program(nvml_library: Path, tmp_path: Path) -> None:
    machine = h100_x8()
    async with played_host(nvml_library, machine, tmp_path) as host:
        host.played.change(changed(changed(machine, 2, xids=(31, 13)), 4, xids=(31, 79)))
        await host.until_gpu(4, health="failing: Xid 79", available_mb=0)
        assert (await host.gpu(2))["health"] == "ok"
        assert (await host.reserve(1_000, 4)).status_code == 409
        assert (await host.reserve(1_000, 2)).status_code == 201


async def test_the_driver_goes_away_and_comes_back(nvml_library: Path, tmp_path: Path) -> None:
    """Every call refused, as during a driver upgrade: the cards stay in the states, and nothing is given."""
    machine = scenarios.unlike_pair()
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(10_000, 0)
        host.played.change(replace(machine, errors={"nvmlDeviceGetCount": 18, "nvmlInit": 18}))
        await host.until_gpu(0, health="lost", reserved_mb=10_000)
        assert (await host.reservation(name))["health"] == "GPU 0 is lost"
        assert (await host.reserve(100, 0)).status_code == 409
        assert (await host.reserve(64)).status_code == 201, "host RAM is not the driver's business"
        host.played.change(machine)
        await host.until_gpu(0, seconds=20, health="ok", reserved_mb=10_000)


async def test_a_silent_driver_does_not_silence_the_service(nvml_library: Path, tmp_path: Path) -> None:
    machine = scenarios.unlike_pair()
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(10_000, 0)
        host.played.change(replace(machine, delay_ms=4_000))
        await host.until_gpu(0, health="not answering", reserved_mb=10_000, available_mb=0)
        clock = asyncio.get_running_loop().time
        started = clock()
        answers: list[Any] = [await host.reserve(100, 0), await host.reserve(64), await host.states()]
        assert clock() - started < 2, "nobody waits for it"
        assert [answers[0].status_code, answers[1].status_code] == [409, 201]
        assert (await host.reservation(name))["health"] == "GPU 0 is not answering"
        assert "not answered" in str((await host.client.get("/healthz")).json())
        host.played.change(machine)
        await host.until_gpu(0, seconds=60, health="ok", reserved_mb=10_000)


async def test_a_card_that_is_lost_when_the_service_starts(nvml_library: Path, tmp_path: Path) -> None:
    """Its reservation, promised before a restart, is flagged, and counted again once the card is back."""
    machine = h100_x8()
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(10_000, 1)
    async with played_host(nvml_library, scenarios.lost(1), tmp_path) as host:
        assert (await host.gpu(1))["health"] == "lost"
        assert "is gone" in (await host.reservation(name))["health"]
        assert (await host.reserve(100, 1)).status_code == 409
        host.played.change(machine)
        await host.until_gpu(1, health="ok", reserved_mb=10_000)


async def test_one_refused_call_costs_nothing_else(nvml_library: Path, tmp_path: Path) -> None:
    names = ("Temperature", "PowerUsage", "UtilizationRates", "TotalEccErrors", "RemappedRows", "NvLinkState")
    errors = {f"nvmlDeviceGet{name}": NOT_SUPPORTED for name in names} | {"nvmlDeviceRegisterEvents": 999}
    machine = replace(scenarios.unlike_pair(), errors=errors)
    async with played_host(nvml_library, machine, tmp_path) as host:
        gpu = await host.gpu(0)
        assert (gpu["temperature_c"], gpu["power_w"], gpu["utilization"]) == (None, None, None)
        assert (gpu["health"], gpu["used_mb"], gpu["attribution"]) == ("ok", 600, "process")
        memory = changed(machine, 0, errors={"nvmlDeviceGetMemoryInfo": GPU_IS_LOST})
        host.played.change(memory)
        await host.until_gpu(0, health="lost")
        assert (await host.gpu(1))["health"] == "ok"
        host.played.change(changed(machine, 0, errors={"nvmlDeviceGetMemoryInfo": 999}))
        await host.until_gpu(0, health="memory unreadable", available_mb=0)
