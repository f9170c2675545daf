"""Who a reservation belongs to: forked engines, containers, and drivers that do not tell."""

import os
import secrets
import sys
from pathlib import Path

import pytest

from gpu_orchestrator.processes import holder_of_container, in_first_namespace, snapshot
from tests.integration.gpu_orchestrator.played import MARGIN_MB, changed, engine, played_host, using
from tests.support.cgroup import NoGroupError, memory_group
from tests.support.nvml import MIB, scenarios
from tests.support.nvml.scenarios import unlike_pair, wsl

TOTAL = 24_564
DRIVER = 600

# An engine: its parent starts a worker in its session and a daemon that leaves it, tells their pids, and ends
# when it is told to.
FORKING = """
import os, sys, time
pids = []
for leaves in (False, True):
    pid = os.fork()
    if pid == 0:
        if leaves:
            os.setsid()
        os.close(1)
        time.sleep(600)
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.readline()
"""


async def test_a_forked_engine_is_all_of_its_processes(nvml_library: Path, tmp_path: Path) -> None:
    """Its worker and a daemon of its own session hold the reservation after their parent died."""
    machine = unlike_pair()
    children: list[int] = []
    with engine(sys.executable, "-c", FORKING, pipe=True) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        try:
            async with played_host(nvml_library, machine, tmp_path) as host:
                name = await host.reserved(10_000, 0)
                assert (await host.reservation(name))["attribution"] is None
                bound = (await host.bind(name, pid=parent.pid)).json()
                assert (bound["state"], bound["attribution"]) == ("bound", "process")
                use = {children[0]: 3_000, children[1]: 4_000}
                host.played.change(using(machine, 0, use))
                await host.until_gpu(0, used_mb=7_600, foreign_mb=DRIVER)
                parent.stdin.write("end\n")
                parent.stdin.flush()
                parent.wait(10)
                await host.until_gpu(0, used_mb=7_600, foreign_mb=DRIVER, reserved_mb=10_000)
                owners = {each["reservation_id"] for each in (await host.gpu(0))["processes"]}
                assert owners == {name}
                os.kill(children[0], 9)
                host.played.change(using(machine, 0, {children[1]: 4_000}))
                await host.until_gpu(0, used_mb=4_600, foreign_mb=DRIVER, reserved_mb=10_000)
                os.kill(children.pop(), 9)
                host.played.change(machine)
                await host.until_gpu(0, reserved_mb=0, reservations=[])
        finally:
            for pid in children:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue


async def test_where_no_process_is_told_the_bound_size_is_assumed(nvml_library: Path, tmp_path: Path) -> None:
    """WSL2: what was there before the reservation stays foreign, then up to its size is its own."""
    machine = scenarios.resized(wsl(), 0, TOTAL, used_mib=1_500)
    async with played_host(nvml_library, machine, tmp_path) as host:
        assert (await host.gpu(0))["attribution"] == "assumed"
        with engine() as ours:
            name = await host.reserved(10_000, 0)
            assert (await host.bind(name, pid=ours.pid)).json()["attribution"] == "assumed"
            available = TOTAL - 10_000 - 1_500 - MARGIN_MB
            await host.until_gpu(0, foreign_mb=1_500, available_mb=available)
            host.played.change(scenarios.resized(machine, 0, TOTAL, used_mib=8_500))
            await host.until_gpu(0, used_mb=8_500, foreign_mb=1_500, available_mb=available)
            host.played.change(scenarios.resized(machine, 0, TOTAL, used_mib=14_000))
            await host.until_gpu(0, used_mb=14_000, foreign_mb=4_000, available_mb=TOTAL - 14_000 - MARGIN_MB)
            assert (await host.gpu(0))["processes"] == []
        await host.until_gpu(0, reserved_mb=0, foreign_mb=14_000)


async def test_a_driver_that_lists_processes_without_their_memory(nvml_library: Path, tmp_path: Path) -> None:
    """As on a vGPU."""
    machine = unlike_pair()
    with engine() as ours:
        async with played_host(nvml_library, machine, tmp_path) as host:
            await host.bind(await host.reserved(10_000, 0), pid=ours.pid)
            host.played.change(changed(machine, 0, used_mib=9_000, processes={ours.pid: None}))
            await host.until_gpu(0, used_mb=9_000, attribution="assumed", foreign_mb=DRIVER)
            assert (await host.gpu(0))["processes"][0]["used_mb"] is None


async def test_absurd_numbers_and_names_cost_nothing_else(nvml_library: Path, tmp_path: Path) -> None:
    machine = unlike_pair()
    processes = {1: (1 << 63) + 5, 2: 700 * MIB, 4_294_967_295: 5}
    absurd = {"temperature_c": 4_000_000_000, "power_mw": 4_000_000_000, "utilization": 700}
    hostile = changed(machine, 0, name="GPU \udcff\udcfe", processes=processes)
    hostile = changed(hostile, 1, memory_mib=1 << 43, used_mib=1 << 42, values=absurd)
    async with played_host(nvml_library, hostile, tmp_path) as host:
        first, second = (await host.states())["gpus"]
        assert (first["name"], first["health"], first["total_mb"]) == ("GPU", "ok", TOTAL)
        assert [(each["pid"], each["used_mb"]) for each in first["processes"]] == [(1, None), (2, 700)]
        assert (second["health"], second["available_mb"]) == ("memory unreadable", 0)
        assert (second["temperature_c"], second["power_w"], second["utilization"]) == (None, None, 1.0)
        assert (await host.reserve(1_000, 0)).status_code == 201
        more = changed(machine, 0, used_mib=TOTAL + 9_000, uuid="\udcff")
        host.played.change(more)
        await host.until_gpu(0, used_mb=TOTAL, available_mb=0, uuid=first["uuid"], reserved_mb=1_000)


async def test_an_old_driver_without_the_newer_calls(nvml_library: Path, tmp_path: Path) -> None:
    async with played_host(nvml_library, scenarios.old_driver(), tmp_path) as host:
        gpu = await host.gpu(0)
        assert (gpu["health"], gpu["total_mb"], gpu["attribution"]) == ("ok", 40_536, "assumed")
        assert [link["to"] for link in gpu["links"]] == [1]
        assert (await host.reserve(10_000, 0, 1)).status_code == 201


async def test_the_library_of_wsl_is_found(nvml_library: Path, tmp_path: Path) -> None:
    """Where the loader does not look; a sitecustomize puts the played one in that place."""
    library = nvml_library / "current" / "libnvidia-ml.so.1"
    (tmp_path / "sitecustomize.py").write_text(
        f"from compute_common import nvml\nnvml.ELSEWHERE = ('/nowhere/x.so', {str(library)!r})\n"
    )
    elsewhere = {"LD_LIBRARY_PATH": "", "PYTHONPATH": str(tmp_path)}
    async with played_host(nvml_library, wsl(), tmp_path, elsewhere) as host:
        assert (await host.gpu(0))["name"] == "NVIDIA GeForce RTX 4090"


async def test_a_container_is_whoever_is_in_its_cgroup(nvml_library: Path, tmp_path: Path) -> None:
    """A real group named as Docker names one; its two processes are no family, as after `docker exec`."""
    container = secrets.token_hex(32)
    machine = unlike_pair()
    try:
        group = memory_group(200, f"docker-{container}.scope")
        with group as made, engine() as first, engine() as second:
            for process in (first, second):
                (made.folder / "cgroup.procs").write_text(str(process.pid))
            async with played_host(nvml_library, machine, tmp_path) as host:
                name = await host.reserved(10_000, 0)
                assert (await host.bind(name, container_id=secrets.token_hex(32))).status_code == 409
                assert (await host.bind(name, container_id=container[:12])).status_code == 422
                assert (await host.bind(name, container_id=container)).json()["state"] == "bound"
                host.played.change(using(machine, 0, {first.pid: 4_000, second.pid: 3_000}))
                await host.until_gpu(0, used_mb=7_600, foreign_mb=DRIVER)
                first.kill()
                first.wait()
                host.played.change(using(machine, 0, {second.pid: 3_000}))
                await host.until_gpu(0, used_mb=3_600, foreign_mb=DRIVER, reserved_mb=10_000)
                second.kill()
                second.wait()
                await host.until_gpu(0, reserved_mb=0)
    except NoGroupError as error:
        pytest.skip(str(error))


def test_a_container_is_known_by_the_path_of_its_cgroup(tmp_path: Path) -> None:
    """Docker's two drivers, a pod, and a container in a container, seen from inside another one."""
    wanted, outer = "ab" * 32, "cd" * 32
    paths = {
        11: f"0::/system.slice/docker-{wanted}.scope\n",
        12: f"12:memory:/docker/{wanted}\n0::/\n",
        13: f"0::/../kubepods-burstable-pod12.slice/cri-containerd-{wanted}.scope\n",
        14: f"0::/docker/{outer}/docker/{wanted}\n",
        15: f"0::/docker/{outer}\n",
    }
    for pid, cgroup in paths.items():
        folder = tmp_path / str(pid)
        folder.mkdir()
        folder.joinpath("stat").write_text(f"{pid} (a (b) c) S 1 {pid} {pid} " + "0 " * 15 + "77 0 0\n")
        folder.joinpath("cgroup").write_text(cgroup)
    table = snapshot(with_containers=True, proc=tmp_path)
    assert {pid for pid, row in table.items() if wanted in row.containers} == {11, 12, 13, 14}
    assert table[11].start_ticks == 77
    assert holder_of_container(wanted, proc=tmp_path).container_id == wanted


def test_pids_of_another_namespace_are_not_the_drivers(tmp_path: Path) -> None:
    folder = tmp_path / "self/ns"
    folder.mkdir(parents=True)
    (folder / "pid").symlink_to("pid:[4026532001]")
    assert not in_first_namespace(tmp_path)
    assert not in_first_namespace(tmp_path / "nothing")
