"""Processors from recorded trees."""

from pathlib import Path

import pytest

from resource_detector.detection import Roots
from resource_detector.findings import CpuFound, Notes
from resource_detector.sources.cgroups import Cgroups
from resource_detector.sources.cpu import parse_cpu_list, read_cpu
from tests.unit.resource_detector.trees import host_tree, write


def read(roots: Roots, notes: Notes) -> CpuFound:
    return read_cpu(roots.proc, roots.sys, Cgroups(roots.proc, roots.sys, notes), notes)


def test_a_plain_host(tmp_path: Path) -> None:
    notes = Notes()
    cpu = read(host_tree(tmp_path), notes)
    assert (cpu.cores, cpu.threads, cpu.host_threads) == (4, 8, 8)
    assert cpu.model_name == "AMD EPYC 9554 64-Core Processor"
    assert cpu.frequency_mhz == 2700
    assert "avx512_bf16" in cpu.flags


def test_a_cpuset_narrows_threads_and_cores(tmp_path: Path) -> None:
    cpu = read(host_tree(tmp_path, allowed="0-2,7"), Notes())
    assert (cpu.threads, cpu.cores) == (4, 3)


def test_cpufreq_knows_the_highest_frequency(tmp_path: Path) -> None:
    roots = host_tree(tmp_path)
    write(roots.sys, {"devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3750000\n"})
    assert read(roots, Notes()).frequency_mhz == 3750


def test_an_arm_board(tmp_path: Path) -> None:
    roots = host_tree(tmp_path, threads=4)
    blocks = "\n".join(f"processor\t: {n}\nFeatures\t: fp asimd bf16\n" for n in range(4))
    write(roots.proc, {"cpuinfo": f"{blocks}\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 5\n"})
    for number in range(4):
        topology = f"devices/system/cpu/cpu{number}/topology"
        write(roots.sys, {f"{topology}/physical_package_id": "0", f"{topology}/core_id": str(number)})
    cpu = read(roots, Notes())
    assert (cpu.cores, cpu.threads, cpu.model_name) == (4, 4, "Raspberry Pi 5")
    assert cpu.frequency_mhz is None


def test_nothing_readable_is_a_warning(tmp_path: Path) -> None:
    notes = Notes()
    cpu = read(Roots(tmp_path / "none", tmp_path / "none"), notes)
    assert cpu.threads >= 1
    assert any("cpuinfo" in text for text in notes.warnings)


@pytest.mark.parametrize(("text", "count"), [("0", 1), ("0-3", 4), ("0-1,4,6-7\n", 5)])
def test_cpu_lists(text: str, count: int) -> None:
    assert len(parse_cpu_list(text)) == count
