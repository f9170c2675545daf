"""Whole trees of /proc and /sys, as amdgpu, KFD and control groups write them (tests/data/trees)."""

from pathlib import Path

import pytest

from compute_common.enums import Platform, Tier
from compute_common.nvlink import LinkFound
from resource_detector.detection import detect, platform_of, tier_of
from resource_detector.findings import Hardware
from resource_detector.sources.amd import product_name
from resource_detector.sources.nvidia import NvmlReader
from tests.unit.resource_detector.nvml_script import ScriptedNvml
from tests.unit.resource_detector.trees import host_tree, unpack


def found_in(name: str, root: Path) -> Hardware:
    roots = host_tree(root)
    unpack(name, root)
    return detect(roots, NvmlReader(ScriptedNvml([])), "h")


def test_mi300x(tmp_path: Path) -> None:
    found = found_in("amd-mi300x", tmp_path)
    assert [gpu.name for gpu in found.gpus] == ["AMD Instinct MI300X OAM"] * 2
    busy = found.gpus[1]
    assert (busy.vram_mb, busy.vram_used_mb, busy.utilization) == (196_592, 183_000, 0.99)
    assert (busy.compute_capability, busy.bandwidth_gb_s) == ("gfx942", 5300)
    assert (busy.pci_bus_id, busy.pcie_generation, busy.pcie_width) == ("0000:26:00.0", 5, 16)
    assert (busy.temperature_c, busy.power_w, busy.power_limit_w) == (63, 612, 750)
    assert (busy.driver_version, busy.uuid) == ("6.10.5", "AMD-b1b2c3d4e5f60719")
    assert [gpu.links for gpu in found.gpus] == [(LinkFound(1, "xgmi"),), (LinkFound(0, "xgmi"),)]
    assert (tier_of(found)[0], platform_of(found)) == (Tier.AI_FACTORY, Platform.ROCM)
    assert found.warnings == ()
    assert found.sources["gpus.1.vram_mb"] == "/sys/class/drm/card2/device/mem_info_vram_total"


def test_mi250x_is_two_devices(tmp_path: Path) -> None:
    found = found_in("amd-mi250x", tmp_path)
    first, second = found.gpus
    assert (first.name, first.vram_mb, first.bandwidth_gb_s) == (
        "AMD Instinct MI250X (per GCD)",
        65_520,
        1638,
    )
    assert first.compute_capability == "gfx90a"
    assert (first.links, second.links) == ((LinkFound(1, "xgmi"),), (LinkFound(0, "xgmi"),))
    assert (first.power_w, second.power_w) == (92, None)
    assert found.warnings == ("GPU 1 does not tell power_w, power_limit_w",)
    assert tier_of(found)[0] is Tier.AI_FACTORY


def test_a_consumer_card_beside_processor_graphics(tmp_path: Path) -> None:
    found = found_in("amd-7900xtx", tmp_path)
    assert [(gpu.name, gpu.vram_mb, gpu.bandwidth_gb_s) for gpu in found.gpus] == [
        ("AMD Radeon RX 7900 XTX", 24_560, 960)
    ]
    assert found.gpus[0].compute_capability == "gfx1100"
    assert found.gpus[0].links == ()
    assert tier_of(found)[0] is Tier.GPU_PEER
    assert found.warnings == ("AMD GPU card1 is left out: only 512 MiB of its own",)


def test_a_large_carve_out_is_still_system_memory(tmp_path: Path) -> None:
    found = found_in("amd-strix-halo", tmp_path)
    gpu = found.gpus[0]
    assert (gpu.name, gpu.vram_mb, gpu.unified) == ("AMD Radeon 8060S", 98_304, True)
    assert tier_of(found)[0] is Tier.GPU_INFRA


@pytest.mark.parametrize(
    ("told", "device", "target", "mib", "name"),
    [
        (
            "AMD INSTINCT MI250 (MCM) OAM AC MBA",
            "0x740c",
            "gfx90a",
            65_520,
            "AMD INSTINCT MI250 (MCM) OAM AC MBA",
        ),
        (None, "0x744c", "gfx1100", 20_464, "AMD Radeon RX 7900 XT"),
        (None, "0x744c", "gfx1100", 16_368, "AMD Radeon RX 7900 GRE"),
        (None, "0xffff", "gfx942", 1, "AMD Instinct MI300X"),
        (None, "0xffff", None, 1, "AMD GPU (0xffff)"),
        ("Radeon Pro W6800", "0x73a3", None, 1, "AMD Radeon Pro W6800"),
    ],
)
def test_amd_names(told: str | None, device: str, target: str | None, mib: int, name: str) -> None:
    assert product_name(told, device, target, mib) == name


@pytest.mark.parametrize(
    ("tree", "total", "available", "threads", "swap", "where"),
    [
        ("cgroup-v1-docker", 3000, 2100, 3, 0, "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        (
            "cgroup-v2-pod",
            6000,
            4000,
            4,
            0,
            "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/pod12.slice/memory.max",
        ),
        ("cgroup-hybrid", 24_000, 12_000, 8, 2048, "/proc/meminfo MemTotal"),
    ],
)
def test_control_groups(
    tmp_path: Path, *, tree: str, total: int, available: int, threads: int, swap: int, where: str
) -> None:
    found = found_in(tree, tmp_path)
    memory = found.memory
    assert (memory.total_mb, memory.available_mb, memory.swap_total_mb) == (total, available, swap)
    assert found.cpu.threads == threads
    assert found.sources["memory.total_mb"] == where
    assert found.warnings == ()


def test_a_version_1_limit_above_what_is_mounted(tmp_path: Path) -> None:
    roots = host_tree(tmp_path)
    unpack("cgroup-v1-docker", tmp_path)
    group = roots.sys / "fs/cgroup/memory"
    (group / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (group / "memory.stat").write_text(f"hierarchical_memory_limit {1000 << 20}\n")
    found = detect(roots, NvmlReader(ScriptedNvml([])), "h")
    assert found.memory.total_mb == 1000
    assert found.sources["memory.total_mb"] == "/sys/fs/cgroup/memory/memory.stat"
