"""The tier of every reference card, and of documents that say little."""

import csv
from pathlib import Path

import pytest

from compute_common.enums import Tier
from node_registry.hardware import tier_of
from node_registry.table import NodeTable
from tests.unit.node_registry.builders import at, document, found

CARDS = list(csv.DictReader((Path(__file__).parents[2] / "data/gpus.csv").read_text().splitlines()))
UNIFIED_MB = 120_000
UNIFIED = ("GB10", "Orin")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card["nvml_name"])
@pytest.mark.parametrize("with_bandwidth", [True, False])
def test_every_reference_card(card: dict[str, str], with_bandwidth: bool) -> None:
    """Also without a reported bandwidth: then the table by name answers."""
    gpu = {
        "name": card["nvml_name"],
        "vram_mb": int(card["memory_mib"] or UNIFIED_MB),
        "compute_capability": card["compute_capability"],
        "unified": any(name in card["nvml_name"] for name in UNIFIED),
    }
    if with_bandwidth:
        gpu["bandwidth_gb_s"] = float(card["bandwidth_gb_s"])
    assert tier_of(document(gpus=[gpu]))[0] == Tier(card["tier"])


def test_the_best_single_gpu_decides() -> None:
    small = {"name": "NVIDIA GeForce RTX 3060", "vram_mb": 12288}
    assert tier_of(document(gpus=[small] * 8))[0] is Tier.GPU_INFRA
    best = {"name": "NVIDIA H200", "vram_mb": 143771}
    assert tier_of(document(gpus=[small, best]))[0] is Tier.AI_FACTORY


def test_a_declared_tier_stands_where_the_hardware_is_silent() -> None:
    assert tier_of(document(tier="gpu_peer")) == (Tier.GPU_PEER, [])
    assert tier_of(document(tier="GPU_PEER", gpus=[{"name": "GPU"}]))[0] is Tier.GPU_PEER
    assert tier_of(document()) == (Tier.CPU_ONLY, [])


def test_a_declared_tier_that_differs_is_a_warning() -> None:
    tier, warnings = tier_of(document(tier="AI_FACTORY", gpus=[{"name": "Tesla T4", "vram_mb": 15360}]))
    assert tier is Tier.GPU_INFRA
    assert warnings[0].startswith("declared AI_FACTORY, but its hardware is GPU_INFRA")
    assert tier_of(document(tier="GPU_PEER", gpu_count=0))[1] != []


def test_a_flat_document() -> None:
    flat = document(gpu_count=2, gpu_vram_gb=48, gpu_models=["NVIDIA GeForce RTX 3090"] * 2)
    assert tier_of(flat) == (Tier.GPU_PEER, [])


def cut_card(*sizes_mb: int) -> dict[str, object]:
    slices = [{"name": "1g.10gb", "uuid": f"MIG-{n}", "vram_mb": size} for n, size in enumerate(sizes_mb)]
    return {
        "name": "NVIDIA H100 80GB HBM3",
        "vram_mb": 81559,
        "compute_capability": "9.0",
        "schedulable": False,
        "slices": slices,
    }


def test_a_card_that_is_cut_counts_as_its_slices() -> None:
    assert tier_of(document(gpus=[cut_card(*[9856] * 7)]))[0] is Tier.GPU_INFRA
    assert tier_of(document(gpus=[cut_card(40448, 20096)]))[0] is Tier.AI_FACTORY
    assert tier_of(document(gpus=[cut_card(20096, 9856)]))[0] is Tier.GPU_PEER
    assert tier_of(document(gpus=[cut_card()]))[0] is Tier.CPU_ONLY, "MIG is on but nothing was cut"


def test_filters_see_the_slices_not_the_card() -> None:
    table = NodeTable()
    table.announce(document("cut", gpus=[cut_card(40448, 20096, 9856)]), at(0))
    assert found(table, min_vram_gb=40, min_gpu_count=3) == ["cut"]
    assert found(table, min_vram_gb=80) == []
    assert found(table, min_gpu_count=4) == []
    assert found(table, min_total_vram_gb=80) == []
