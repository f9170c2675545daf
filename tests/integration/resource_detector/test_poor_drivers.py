"""Drivers that are old, absent, misplaced or tell only a part: what they do tell is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.resource_detector.played_host import RAM_MB, Detect
from tests.support.nvml import Gpu, Played, Scenario, scenarios


def run(code: str, played: Played) -> str:
    """What a Python of its own prints, with the played library."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **played.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


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
    told = run(code, played)
    assert told == "NVMLLibraryMismatchError False\n"


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
    told = run(code, played)
    assert json.loads(told)["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090"


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
