"""Every card there is, and those that are not what their name says: tier and bandwidth of each."""

import csv
from pathlib import Path
from typing import Any

from compute_common.enums import Tier
from compute_common.tiers import GpuFacts, classify_gpu
from tests.integration.resource_detector.played_host import RAM_MB, Detect
from tests.support.nvml import Scenario, scenarios

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
