"""Machines the detector meets, each played by a compiled NVML: what is found there, and advised."""

import pytest

from compute_common.schemas.node import NodeDocument
from tests.integration.resource_detector.played_host import RAM_MB, Detect
from tests.support.nvml import Scenario, scenarios


def test_eight_h100_on_switches(detect: Detect) -> None:
    found = detect(scenarios.h100_x8())
    assert (found["tier"], found["platform"], len(found["gpus"])) == ("AI_FACTORY", "cuda", 8)
    assert (found["driver_version"], found["cuda_version"]) == ("570.86.10", "12.8")
    for gpu in found["gpus"]:
        assert sorted(link["to"] for link in gpu["links"]) == [n for n in range(8) if n != gpu["index"]]
        assert {(link["kind"], link["lanes"]) for link in gpu["links"]} == {("nvswitch", 18)}
    first = found["gpus"][0]
    assert (first["vram_mb"], first["vram_used_mb"], first["compute_capability"]) == (81559, 600, "9.0")
    assert first["bandwidth_gb_s"] == pytest.approx(3352, abs=1)
    assert (first["pcie_generation"], first["pcie_width"], first["pci_bus_id"]) == (5, 16, "00000000:10:00.0")
    assert (first["power_w"], first["power_limit_w"], first["temperature_c"]) == (120.5, 700.0, 41.0)
    assert (first["ecc"], first["schedulable"], first["mig"]) == (True, True, False)
    assert len({gpu["uuid"] for gpu in found["gpus"]}) == 8
    assert found["warnings"] == []
    assert "81559 MiB, 3352 GB/s, capability 9.0" in found["tier_reason"]


def test_every_value_has_a_source(detect: Detect) -> None:
    """Whatever the answer holds: what follows from another value needs none."""
    found = detect(scenarios.lost(3))
    derived = {"index", "vendor", "unified", "coherent", "schedulable", "mig", "slices"}
    told = {f"gpus.{gpu['index']}.{field}" for gpu in found["gpus"] for field in gpu if field not in derived}
    told |= {f"cpu.{field}" for field in found["cpu"]} | {f"memory.{field}" for field in found["memory"]}
    told |= {"hostname", "boot_id", "ipv4", "network", "disks", "driver_version", "cuda_version"} & set(found)
    paired = {"driver_version": "driver_version", "vram_used_mb": "vram_mb", "swap_free_mb": "swap_total_mb"}
    for path in sorted(told):
        above, _, field = path.rpartition(".")
        other = "driver_version" if field == "driver_version" else f"{above}.{paired.get(field)}"
        assert path in found["sources"] or other in found["sources"], path
    assert not any(name.startswith("gpus.3.") for name in found["sources"]), "GPU 3 is lost"


def test_two_unlike_cards(detect: Detect) -> None:
    found = detect(scenarios.unlike_pair())
    assert [gpu["name"][-4:] for gpu in found["gpus"]] == ["4090", "3090"]
    assert [gpu["links"] for gpu in found["gpus"]] == [[], []]
    assert found["tier"] == "GPU_PEER"
    assert "unlike cards" in found["recommendations"]["notes"][0]


def test_a_bridge_joins_only_its_pair(detect: Detect) -> None:
    found = detect(scenarios.bridged_pair())
    assert [gpu["links"] for gpu in found["gpus"]] == [
        [{"to": 1, "kind": "nvlink", "lanes": 3}],
        [{"to": 0, "kind": "nvlink", "lanes": 3}],
        [],
    ]


def test_mig_slices_are_what_is_scheduled(detect: Detect) -> None:
    found = detect(scenarios.mig())
    cut, whole = found["gpus"]
    assert (cut["mig"], cut["schedulable"], whole["mig"], whole["schedulable"]) == (True, False, False, True)
    assert [(part["vram_mb"], part["schedulable"]) for part in cut["slices"]] == [
        (40448, True),
        (20096, True),
        (9856, True),
    ]
    assert len({part["uuid"] for part in cut["slices"]}) == 3
    assert cut["slices"][2]["name"].endswith("MIG 1g.10gb")
    assert [part["gpu_instance"] for part in cut["slices"]] == [1, 2, 3]
    assert "utilization" not in cut
    assert found["warnings"] == [], "that the parent tells no utilisation is as it should be"
    announced = NodeDocument.model_validate(found).model_dump(mode="json", exclude_none=True)
    assert announced["gpus"][0]["slices"] == cut["slices"], "they reach whoever reads the node's document"
    assert "1 of 2 GPUs cut into 3 MIG slices, the largest 40448 MiB" in found["tier_reason"]


@pytest.mark.parametrize("zero", [False, True], ids=["not supported", "success with 0"])
def test_gb10_uses_the_systems_memory(detect: Detect, zero: bool) -> None:
    found = detect(scenarios.gb10(zero))
    gpu = found["gpus"][0]
    assert (gpu["vram_mb"], gpu["vram_used_mb"], gpu["unified"]) == (RAM_MB, RAM_MB // 2, True)
    assert found["sources"]["gpus.0.vram_mb"] == "/proc/meminfo MemTotal (unified memory)"
    assert (found["tier"], gpu["bandwidth_gb_s"]) == ("GPU_PEER", 273)
    assert any("shares the system's memory" in note for note in found["recommendations"]["notes"])


def test_gb10_in_a_small_container(detect: Detect) -> None:
    """The detector's own limit says nothing about what an engine beside it may use."""
    group = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/memory.max": f"{512 << 20}\n",
    }
    found = detect(scenarios.gb10(), group)
    assert (found["memory"]["total_mb"], found["gpus"][0]["vram_mb"]) == (512, RAM_MB)
    assert found["tier"] == "GPU_PEER"


def test_gh200_has_its_own_memory_and_none_of_the_cpus(detect: Detect) -> None:
    node = "sys/devices/system/node/node"
    numa = {
        f"{node}0/cpulist": "0-7\n",
        f"{node}0/meminfo": "Node 0 MemTotal:       24128000 kB\n",
        f"{node}1/cpulist": "\n",
        f"{node}1/meminfo": "Node 1 MemTotal:       100800000 kB\n",
    }
    found = detect(scenarios.gh200(), numa)
    gpu = found["gpus"][0]
    assert (gpu["vram_mb"], gpu["unified"], gpu["coherent"], found["tier"]) == (
        97871,
        False,
        True,
        "AI_FACTORY",
    )
    assert found["memory"]["total_mb"] == RAM_MB - 100_800_000 // 1024, "HBM is not RAM"
    assert [part["cpus"] for part in found["host"]["numa_nodes"]] == [8, 0]


@pytest.mark.parametrize(
    ("scenario", "engine", "image", "dtype", "kv", "first", "note"),
    [
        (scenarios.h100_x8(), "vllm", "vllm/vllm-openai:v0.", "bfloat16", "fp8", "fp8", None),
        (scenarios.unlike_pair(), "vllm", "vllm/vllm-openai", "bfloat16", "auto", "awq_marlin", "unlike"),
        (scenarios.mig(), "vllm", "vllm/vllm-openai", "bfloat16", "fp8", "fp8", "uuid"),
        (scenarios.gb10(), "vllm", "nvcr.io/nvidia/vllm", "bfloat16", "fp8", "nvfp4", "system's memory"),
        (scenarios.gh200(), "vllm", "vllm/vllm-openai", "bfloat16", "fp8", "fp8", "coherent"),
        (scenarios.wsl(), "vllm", "vllm/vllm-openai", "bfloat16", "fp8", "fp8", "WSL2"),
        (scenarios.old_driver(), "vllm", "vllm/vllm-openai", "bfloat16", "auto", "awq_marlin", "CUDA 11.0"),
        (scenarios.jetson(), "vllm", "jetson-orin", "bfloat16", "auto", "awq_marlin", "system's memory"),
        (scenarios.no_driver(), "llama_cpp", "llama.cpp:server", "bfloat16", "auto", "q4_k_m", "AVX-512"),
    ],
    ids=["h100", "unlike", "mig", "gb10", "gh200", "wsl", "old driver", "jetson", "cpu"],
)
def test_recommendations(
    detect: Detect,
    scenario: Scenario,
    *,
    engine: str,
    image: str,
    dtype: str,
    kv: str,
    first: str,
    note: str | None,
) -> None:
    files = {"proc/version": "microsoft-standard-WSL2"} if scenario == scenarios.wsl() else {}
    if scenario == scenarios.jetson():
        files = {"proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0"}
    advice = detect(scenario, files)["recommendations"]
    assert (advice["engine"], advice["dtype"], advice["kv_cache_dtype"]) == (engine, dtype, kv)
    assert image in advice["image"]
    assert advice["quantization"][0] == first
    assert note is None or any(note in text for text in advice["notes"])
