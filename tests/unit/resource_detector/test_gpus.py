"""GPUs through NVML and sysfs, and the tier that follows."""

import csv
from pathlib import Path

import pynvml
import pytest

from compute_common.enums import Platform, Tier
from resource_detector.detection import detect, platform_of, tier_of
from resource_detector.findings import GpuFound, Hardware, Notes
from resource_detector.sources.kfd import gfx_name
from resource_detector.sources.nvidia import Nvidia, NvmlReader, SystemRam
from tests.unit.resource_detector.nvml_script import Card, ScriptedNvml
from tests.unit.resource_detector.trees import amd_card, host_tree

CARDS = list(csv.DictReader((Path(__file__).parents[2] / "data/gpus.csv").read_text().splitlines()))
RTX_4090 = Card("NVIDIA GeForce RTX 4090", 24564, (8, 9), 10501, 384)
RAM = SystemRam(120_000, 20_000)
H100 = Card("NVIDIA H100 80GB HBM3", 81559, (9, 0), 2619, 5120)


def nvidia(*cards: Card, notes: Notes | None = None) -> Nvidia:
    return NvmlReader(ScriptedNvml(list(cards))).read(notes or Notes(), RAM)


def hardware(tmp_path: Path, *gpus: GpuFound) -> Hardware:
    found = detect(host_tree(tmp_path), NvmlReader(ScriptedNvml([])), "h")
    return Hardware(found.cpu, found.memory, gpus, found.host, {}, ())


def test_a_card_with_everything(tmp_path: Path) -> None:
    gpu = nvidia(RTX_4090).gpus[0]
    assert (gpu.name, gpu.vram_mb, gpu.vram_used_mb) == ("NVIDIA GeForce RTX 4090", 24564, 500)
    assert (gpu.uuid, gpu.compute_capability, gpu.driver_version) == ("GPU-00000000", "8.9", "570.86.10")
    assert gpu.bandwidth_gb_s == pytest.approx(1008, rel=0.001)
    assert gpu.utilization == 0.25
    assert tier_of(hardware(tmp_path, gpu))[0] is Tier.GPU_PEER
    assert platform_of(hardware(tmp_path, gpu)) is Platform.CUDA


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card["nvml_name"])
def test_every_reference_card(card: dict[str, str], tmp_path: Path) -> None:
    """With the bandwidth the driver would report."""
    gpu = GpuFound(
        index=0,
        name=card["nvml_name"],
        vendor="nvidia",
        vram_mb=int(card["memory_mib"] or 120_000),
        compute_capability=card["compute_capability"],
        bandwidth_gb_s=float(card["bandwidth_gb_s"]),
        unified=any(name in card["nvml_name"] for name in ("GB10", "Orin")),
    )
    assert tier_of(hardware(tmp_path, gpu))[0] == Tier(card["tier"])


@pytest.mark.parametrize(
    "card",
    [card for card in CARDS if card["compute_capability"][:1].isdigit()],
    ids=lambda card: card["nvml_name"],
)
def test_every_nvidia_card_through_the_reader(card: dict[str, str], tmp_path: Path) -> None:
    """Without clock and bus width the reader finds the bandwidth by name."""
    major, minor = card["compute_capability"].split(".")
    mib = int(card["memory_mib"]) if card["memory_mib"] else None
    gpu = nvidia(Card(card["nvml_name"], mib, (int(major), int(minor)))).gpus[0]
    assert gpu.bandwidth_gb_s == float(card["bandwidth_gb_s"])
    assert tier_of(hardware(tmp_path, gpu))[0] == Tier(card["tier"])


def test_unified_memory_is_the_systems() -> None:
    notes = Notes()
    gpu = nvidia(Card("NVIDIA GB10", None, (12, 1)), notes=notes).gpus[0]
    assert (gpu.unified, gpu.vram_mb) == (True, 120_000)
    assert notes.sources["gpus.0.vram_mb"] == "/proc/meminfo MemTotal (unified memory)"
    discrete = nvidia(Card("NVIDIA L40S", None), notes=notes).gpus[0]
    assert (discrete.unified, discrete.vram_mb) == (False, None)
    assert "GPU 0: memory size could not be read" in notes.warnings


def test_links() -> None:
    cards = [Card("NVIDIA H100 80GB HBM3", 81559, linked_to=tuple({0, 1, 2, 3} - {n})) for n in range(4)]
    found = nvidia(*cards, Card("NVIDIA L4", 23034)).gpus
    reached = [tuple(link.to for link in gpu.links) for gpu in found]
    assert reached == [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2), ()]


def test_a_lost_card_costs_only_itself() -> None:
    notes = Notes()
    found = nvidia(RTX_4090, Card("gone", 1, lost=True), H100, notes=notes)
    assert [gpu.index for gpu in found.gpus] == [0, 2]
    assert any("GPU 1 is lost" in text for text in notes.warnings)


@pytest.mark.parametrize(
    "call",
    [
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetUtilizationRates",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlSystemGetCudaDriverVersion_v2",
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
        pynvml.NVMLLibraryMismatchError("old driver"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_one_failing_read_costs_only_its_value(call: str, error: Exception) -> None:
    gpu = NvmlReader(ScriptedNvml([RTX_4090], {call: error})).read(Notes(), RAM).gpus[0]
    assert (gpu.name, gpu.vram_mb) == ("NVIDIA GeForce RTX 4090", 24564)


@pytest.mark.parametrize(
    ("code", "warned"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, False),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, False),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, True),
        (pynvml.NVML_ERROR_UNKNOWN, True),
    ],
)
def test_nvml_that_does_not_start(code: int, warned: bool) -> None:
    notes = Notes()
    script = ScriptedNvml([RTX_4090], {"nvmlInit": pynvml.NVMLError(code)})
    assert NvmlReader(script).read(notes, RAM).gpus == ()
    assert bool(notes.warnings) is warned
    assert notes.sources["gpus"].startswith("NVML: ")


def test_nvml_is_started_once_and_again_after_a_reload() -> None:
    script = ScriptedNvml([RTX_4090])
    reader = NvmlReader(script)
    for _round in range(3):
        assert len(reader.read(Notes(), RAM).gpus) == 1
    assert script.starts == 1
    script.broken["nvmlDeviceGetCount"] = pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
    assert reader.read(Notes(), RAM).gpus == ()
    assert script.starts == 0
    script.broken.clear()
    assert len(reader.read(Notes(), RAM).gpus) == 1


def test_amd_cards_from_a_recorded_tree(tmp_path: Path) -> None:
    roots = host_tree(tmp_path)
    amd_card(roots, 0, 196_592, 90402)
    amd_card(roots, 1, 24_560, 110000, product_name="AMD Radeon RX 7900 XTX\n")
    amd_card(roots, 2, 512, 100306)
    found = detect(roots, NvmlReader(ScriptedNvml([])), "h")
    assert [gpu.name for gpu in found.gpus] == ["AMD Instinct MI300X", "AMD Radeon RX 7900 XTX"]
    first = found.gpus[0]
    assert (first.compute_capability, first.vram_mb, first.vram_used_mb) == ("gfx942", 196_592, 1000)
    assert (first.utilization, first.uuid) == (0.37, "AMD-b0c1d2e3f4a59600")
    assert tier_of(found)[0] is Tier.AI_FACTORY
    assert platform_of(found) is Platform.ROCM
    assert "AMD GPU card2 is left out: only 512 MiB of its own" in found.warnings


@pytest.mark.parametrize(("version", "name"), [(90010, "gfx90a"), (90402, "gfx942"), (110001, "gfx1101")])
def test_gfx_names(version: int, name: str) -> None:
    assert gfx_name(version) == name
