"""MIG slices, and parts without memory of their own."""

import re
from dataclasses import replace
from pathlib import Path

import psutil

from tests.integration.gpu_orchestrator.played import (
    MARGIN_MB,
    PlayedHost,
    changed,
    engine,
    played_host,
    told,
)
from tests.support.nvml import MIB, NO_PERMISSION, Scenario, scenarios
from tests.support.nvml.scenarios import at, gb10
from tests.support.waiting import until


async def test_slices_are_devices_and_their_card_is_none(nvml_library: Path, tmp_path: Path) -> None:
    async with played_host(nvml_library, scenarios.mig(), tmp_path) as host:
        gpus = (await host.states())["gpus"]
        assert [gpu["index"] for gpu in gpus] == [0, 1, 100, 101, 102]
        assert [gpu["schedulable"] for gpu in gpus] == [False, True, True, True, True]
        assert [gpu["parent_index"] for gpu in gpus] == [None, None, 0, 0, 0]
        assert [gpu["total_mb"] for gpu in gpus[2:]] == [40_448, 20_096, 9_856]
        assert [gpu["used_mb"] for gpu in gpus[2:]] == [20, 20, 20]
        assert {gpu["uuid"][:4] for gpu in gpus[2:]} == {"MIG-"}
        assert (gpus[0]["available_mb"], gpus[0]["health"]) == (0, "ok")
        whole = await host.reserve(1_000, 0)
        assert whole.status_code == 409
        assert "GPU 0 is in MIG mode (reserve its slices: 100, 101, 102)" in whole.json()["detail"]
        assert (await host.reserve(20_097, 101)).status_code == 409
        await host.reserved(15_000, 101)
        await host.until_gpu(101, reserved_mb=15_000, available_mb=20_096 - 20 - 15_000 - MARGIN_MB)
        assert (await host.gpu(100))["reserved_mb"] == 0
        fit = {"required_mb": 30_000, "gpu_count": 1}
        assert (await host.client.post("/api/v1/gpu/can-fit", json=fit)).json()["gpu_indices"] == [100]
        summary = (await host.client.get("/api/gpu/metrics/summary")).json()
        assert summary["total_vram_mb"] == 81_559 + 40_448 + 20_096 + 9_856, "no card counts with its slices"


async def test_use_on_a_slice_and_a_slice_that_is_destroyed(nvml_library: Path, tmp_path: Path) -> None:
    machine = scenarios.mig()
    with engine() as ours:
        async with played_host(nvml_library, machine, tmp_path) as host:
            name = await host.reserved(10_000, 100)
            await host.bind(name, pid=ours.pid)
            host.played.change(_sliced(machine, 0, used_mib=8_020, processes={ours.pid: 8_000 * MIB}))
            await host.until_gpu(100, used_mb=8_020, foreign_mb=20, attribution="process")
            denied = {"nvmlDeviceGetComputeRunningProcesses": NO_PERMISSION}
            host.played.change(replace(_sliced(machine, 0, used_mib=12_020), errors=denied))
            await host.until_gpu(100, attribution="assumed", used_mb=12_020, foreign_mb=2_020)
            assert await _has_memory(host) == {"ram", "1", "100", "101", "102"}
            host.played.change(changed(machine, 0, slices=machine.gpus[0].slices[1:]))

            async def gone() -> bool:
                return "is gone" in (await host.reservation(name))["health"]

            await until(gone)
            assert await _has_memory(host) == {"ram", "1", "100", "101"}
            assert [gpu["index"] for gpu in (await host.states())["gpus"]] == [0, 1, 100, 101]


async def test_a_cordoned_card_takes_its_slices_along(nvml_library: Path, tmp_path: Path) -> None:
    machine = scenarios.mig()
    async with played_host(nvml_library, machine, tmp_path) as host:
        assert (await host.client.post("/api/v1/gpu/0/cordon")).status_code == 200
        assert (await host.reserve(100, 101)).status_code == 409
        assert (await host.gpu(101))["available_mb"] == 0
        await host.client.post("/api/v1/gpu/0/uncordon")
        assert (await host.reserve(100, 101)).status_code == 201
        broken = changed(machine, 0, values=told(machine.gpus[0], ecc_uncorrected=1).values)
        host.played.change(broken)
        await host.until_gpu(101, available_mb=0)
        assert "uncorrected" in (await host.gpu(101))["health"]


async def test_a_shared_memory_is_one_pool(nvml_library: Path, tmp_path: Path) -> None:
    """What is promised of RAM is not there for the GPU, and the other way round."""
    ram_mb = psutil.virtual_memory().total // MIB
    async with played_host(nvml_library, gb10(), tmp_path) as host:
        states = await host.states()
        gpu, ram = states["gpus"][0], states["host_memory"]
        assert (gpu["unified"], gpu["total_mb"], gpu["health"]) == (True, ram_mb, "ok")
        assert abs(gpu["available_mb"] - ram["available_mb"]) <= 64
        mostly = int(ram["available_mb"] * 0.7)
        name = await host.reserved(mostly)
        assert (await host.reserve(mostly, 0)).status_code == 409
        assert (await host.gpu(0))["reserved_mb"] == mostly
        await host.client.delete(f"/api/v1/gpu/reservations/{name}")
        await host.reserved(mostly, 0)
        refused = await host.reserve(mostly)
        assert refused.status_code == 409
        assert refused.json()["shortfall"][0]["device"] == "host RAM"


async def test_two_gpus_on_one_memory_are_summed(nvml_library: Path, tmp_path: Path) -> None:
    """One reservation on both takes its size twice; either, and RAM, has the rest left."""
    spark = gb10().gpus[0]
    machine = replace(gb10(), gpus=(spark, at(1, spark)))
    async with played_host(nvml_library, machine, tmp_path) as host:
        free = (await host.gpu(0))["available_mb"]
        each = int(free * 0.4)
        refused = await host.reserve(int(free * 0.6), 0, 1)
        assert refused.status_code == 409
        assert [short["gpu_index"] for short in refused.json()["shortfall"]] == [0, 1]
        assert refused.json()["would_fit"]["max_required_mb"] < free * 0.6
        await host.reserved(each, 0, 1)
        states = await host.states()
        assert [gpu["reserved_mb"] for gpu in states["gpus"]] == [2 * each] * 2
        left = {gpu["available_mb"] for gpu in states["gpus"]} | {states["host_memory"]["available_mb"]}
        assert max(left) < each
        assert [(await host.reserve(each, *on)).status_code for on in ((0,), (1,), ())] == [409] * 3


async def test_jetson_and_a_driver_that_says_zero(nvml_library: Path, tmp_path: Path) -> None:
    """Not memory unreadable: it has none of its own. GH200 has."""
    jetson = changed(scenarios.jetson(), 0, values={"no_processes": 1})
    for number, machine in enumerate((gb10(zero=True), jetson)):
        home = tmp_path / str(number)
        home.mkdir()
        async with played_host(nvml_library, machine, home) as host:
            gpu = await host.gpu(0)
            assert (gpu["health"], gpu["unified"]) == ("ok", True)
            assert gpu["available_mb"] > 0
            assert gpu["attribution"] == ("process" if number == 0 else "assumed")
    both = Scenario((scenarios.gh200().gpus[0], at(1, replace(scenarios.H100, memory_mib=None))))
    async with played_host(nvml_library, both, tmp_path) as host:
        grace, unreadable = (await host.states())["gpus"]
        assert (grace["unified"], grace["total_mb"]) == (False, 97_871)
        assert (unreadable["unified"], unreadable["health"]) == (False, "memory unreadable")
        assert (await host.reserve(100, 1)).status_code == 409


def _sliced(machine: Scenario, number: int, **fields: object) -> Scenario:
    slices = list(machine.gpus[0].slices)
    slices[number] = replace(slices[number], **fields)  # type: ignore[arg-type]
    return changed(machine, 0, slices=tuple(slices))


async def _has_memory(host: PlayedHost) -> set[str]:
    """The devices whose total is in the metrics."""
    metrics = (await host.client.get("/metrics")).text
    return set(re.findall(r'compute_memory_bytes{device="(\w+)",kind="total"', metrics))
