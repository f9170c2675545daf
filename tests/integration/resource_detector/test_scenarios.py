"""The real detector and the real nvidia-ml-py against a compiled NVML that plays a machine."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute_common.enums import Tier
from compute_common.schemas.node import NodeDocument
from compute_common.tiers import GpuFacts, classify_gpu
from tests.support.nvml import Gpu, Played, Scenario, scenarios
from tests.unit.resource_detector.trees import host_tree, write

Detect = Callable[..., dict[str, Any]]
RAM_MB = 122_000


@pytest.fixture
def detect(nvml_library: Path, tmp_path: Path) -> Detect:
    """`python -m resource_detector` in a process of its own, on a plain host with 122,000 MiB."""

    def run(scenario: Scenario, files: dict[str, str] | None = None) -> dict[str, Any]:
        root = tmp_path / "root"
        host_tree(root, memory_mb=RAM_MB)
        write(root, files or {})
        played = Played(nvml_library, scenario, tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "resource_detector", str(root)],
            env={**os.environ, **played.environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


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


def test_a_lost_gpu_costs_only_itself(detect: Detect) -> None:
    found = detect(scenarios.lost(3))
    assert [gpu["index"] for gpu in found["gpus"]] == [0, 1, 2, 4, 5, 6, 7]
    assert all(link["to"] != 3 for gpu in found["gpus"] for link in gpu["links"])
    assert found["warnings"] == ["GPU 3 is lost (it fell off the bus; reset it or reboot): it is left out"]


@pytest.mark.parametrize(
    ("scenario", "source", "warning"),
    [
        (scenarios.mismatch(), "NVML: LibRmVersionMismatch", "reboot this host"),
        (scenarios.no_driver(), "NVML: DriverNotLoaded", None),
        (scenarios.no_permission(), "NVML: NoPermission", "/dev/nvidiactl"),
        (scenarios.no_gpus(), "NVML", None),
    ],
    ids=["mismatch", "no driver", "no permission", "no GPUs"],
)
def test_nothing_to_use(detect: Detect, scenario: Scenario, source: str, warning: str | None) -> None:
    found = detect(scenario)
    assert (found["gpus"], found["tier"], found["platform"]) == ([], "CPU_ONLY", "cpu")
    assert found["sources"]["gpus"] == source
    assert (warning is None and found["warnings"] == []) or warning in found["warnings"][0]


def test_an_old_driver_without_the_newer_calls(detect: Detect) -> None:
    found = detect(scenarios.old_driver())
    gpu = found["gpus"][0]
    assert (gpu["vram_mb"], gpu["bandwidth_gb_s"], found["tier"]) == (40536, 1555, "AI_FACTORY")
    assert found["sources"]["gpus.0.bandwidth_gb_s"] == "table by name"
    assert found["cuda_version"] == "11.0"
    assert gpu["links"] == [{"to": 1, "kind": "nvswitch", "lanes": 12}]
    assert found["warnings"] == []


def test_an_old_driver_raises_what_is_no_nvml_error(nvml_library: Path, tmp_path: Path) -> None:
    """The trap itself: proof that the library plays it."""
    played = Played(nvml_library, scenarios.old_driver(), tmp_path)
    code = (
        "import pynvml; pynvml.nvmlInit(); handle = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
        "try: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)\n"
        "except Exception as error: print(type(error).__name__, isinstance(error, pynvml.NVMLError))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **played.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "NVMLLibraryMismatchError False\n"


def test_wsl(detect: Detect) -> None:
    found = detect(
        scenarios.wsl(), {"proc/version": "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@1)"}
    )
    gpu = found["gpus"][0]
    assert (gpu["vram_mb"], gpu["bandwidth_gb_s"], found["tier"]) == (24564, 1008, "GPU_PEER")
    assert "power_w" not in gpu
    told = next(text for text in found["warnings"] if text.startswith("GPU 0 does not tell"))
    assert "power_w (NotSupported)" in told
    assert "WSL2: GPU memory cannot be attributed to single processes" in found["warnings"]


def test_the_library_of_wsl_is_found_where_the_loader_does_not_look(
    nvml_library: Path, tmp_path: Path
) -> None:
    played = Played(nvml_library, scenarios.wsl(), tmp_path)
    library = Path(played.environment.pop("LD_LIBRARY_PATH")) / "libnvidia-ml.so.1"
    code = (
        "import runpy; from compute_common import nvml\n"
        f"nvml.ELSEWHERE = ('/nowhere/libnvidia-ml.so.1', {str(library)!r})\n"
        "runpy.run_module('resource_detector', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **played.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize("scenario", [scenarios.jetson(), scenarios.no_driver()], ids=["partial", "absent"])
def test_jetson_with_partial_nvml_and_without(detect: Detect, scenario: Scenario) -> None:
    board = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    }
    found = detect(scenario, board)
    gpu = found["gpus"][0]
    assert (gpu["name"], gpu["vram_mb"], gpu["unified"]) == ("Orin (nvgpu)", RAM_MB, True)
    assert (found["tier"], gpu["compute_capability"]) == ("GPU_INFRA", "8.7")
    assert found["recommendations"]["image"].endswith("jetson-orin")


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
    ("call", "field"),
    [
        ("nvmlDeviceGetUUID", "uuid"),
        ("nvmlDeviceGetMemoryInfo", "vram_mb"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetPowerUsage", "power_w"),
        ("nvmlDeviceGetPciInfo", "pci_bus_id"),
        ("nvmlDeviceGetMaxPcieLinkWidth", "pcie_width"),
    ],
)
def test_one_refused_answer_costs_only_its_value(detect: Detect, call: str, field: str) -> None:
    whole = scenarios.H100
    found = detect(Scenario((whole,), errors={call: 999}))
    gpu = found["gpus"][0]
    assert field not in gpu
    assert gpu["name"] == whole.name
    assert any(f"{field} (Unknown)" in text for text in found["warnings"])
    assert f"gpus.0.{field}" not in found["sources"]


def test_a_name_that_is_no_text(detect: Detect) -> None:
    found = detect(Scenario((Gpu("NVIDIA \udcff", "GPU-1", 1000), scenarios.RTX_3090)))
    assert [gpu["index"] for gpu in found["gpus"]] == [1]
    assert "GPU 0 has no name: it is left out" in found["warnings"]


CARDS = list(csv.DictReader((Path(__file__).parents[2] / "data/gpus.csv").read_text().splitlines()))
NVIDIA = [row for row in CARDS if row["compute_capability"][:1].isdigit()]
TRAPS = [
    *(("NVIDIA GeForce RTX 4060 Ti", mib, "8.9", Tier.GPU_INFRA) for mib in (8188, 16380)),
    *(("NVIDIA GeForce RTX 3080", mib, "8.6", Tier.GPU_INFRA) for mib in (10240, 12288)),
    *(("NVIDIA L40S", mib, "8.9", Tier.AI_FACTORY) for mib in (46068, 49140)),
    ("NVIDIA GH200 480GB", 97871, "9.0", Tier.AI_FACTORY),
    ("NVIDIA GeForce RTX 4090", 49140, "8.9", Tier.AI_FACTORY),
    ("NVIDIA GeForce RTX 2080 Ti", 22528, "7.5", Tier.GPU_PEER),
    ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, "8.9", Tier.GPU_PEER),
    ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188, "8.9", Tier.GPU_INFRA),
    ("Tesla T4", 15109, "7.5", Tier.GPU_INFRA),
    ("Tesla V100-SXM2-16GB", 16160, "7.0", Tier.GPU_PEER),
]


def tier_of_each(found: dict[str, Any]) -> list[tuple[str, Tier]]:
    """Each card of a detection as if it were the host's only one."""
    return [
        (
            f"{gpu['name']} {gpu['vram_mb']}",
            classify_gpu(
                GpuFacts(
                    gpu["name"],
                    gpu["vram_mb"],
                    gpu["bandwidth_gb_s"],
                    gpu["compute_capability"],
                    gpu["unified"],
                )
            )[0],
        )
        for gpu in found["gpus"]
    ]


def test_every_nvidia_card_of_the_reference_data(detect: Detect) -> None:
    """All in one machine, under a driver that does not tell the bus width: the table has the bandwidth."""
    cards = [
        scenarios.card(n, row["nvml_name"], int(row["memory_mib"] or 0) or None, row["compute_capability"])
        for n, row in enumerate(NVIDIA)
    ]
    found = detect(Scenario(tuple(cards)))
    memory = [int(row["memory_mib"] or RAM_MB) for row in NVIDIA]
    assert tier_of_each(found) == [
        (f"{row['nvml_name']} {mib}", Tier(row["tier"])) for row, mib in zip(NVIDIA, memory, strict=True)
    ]
    assert [gpu["bandwidth_gb_s"] for gpu in found["gpus"]] == [
        float(row["bandwidth_gb_s"]) for row in NVIDIA
    ]


def test_cards_that_are_not_what_their_name_says(detect: Detect) -> None:
    cards = [
        scenarios.card(n, name, mib, capability) for n, (name, mib, capability, _tier) in enumerate(TRAPS)
    ]
    found = detect(Scenario(tuple(cards)))
    assert tier_of_each(found) == [(f"{name} {mib}", tier) for name, mib, _capability, tier in TRAPS]
    assert [gpu["bandwidth_gb_s"] for gpu in found["gpus"][2:4]] == [760, 912]
    assert [gpu["coherent"] for gpu in found["gpus"]].count(True) == 1


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
