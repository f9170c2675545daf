"""Names that promise other than what the card is: laptop parts, two sizes under one name, modified cards."""

import pytest

from compute_common.enums import Tier
from compute_common.gpu_bandwidth import bandwidth_by_name
from compute_common.tiers import GpuFacts, classify_gpu


@pytest.mark.parametrize(
    ("name", "mib", "gb_s"),
    [
        ("NVIDIA GeForce RTX 3080", 10240, 760),
        ("NVIDIA GeForce RTX 3080", 12288, 912),
        ("NVIDIA GeForce RTX 3080 Ti", 12288, 912),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16384, 448),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 16384, 512),
        ("NVIDIA GeForce RTX 4060 Ti", 8188, 288),
        ("NVIDIA GeForce RTX 4060 Ti", 16380, 288),
        ("NVIDIA GeForce RTX 3060", 12288, 360),
        ("NVIDIA GeForce RTX 3060", 8192, 240),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, 576),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8188, 256),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 24463, 896),
        ("NVIDIA GH200 480GB", 97871, 4000),
        ("NVIDIA GH200 144G HBM3e", 146831, 4900),
        ("NVIDIA RTX 6000 Ada Generation", 49140, 960),
        ("Quadro RTX 6000", 24576, 672),
        ("AMD Radeon RX 7900 XT", 20464, 800),
    ],
)
def test_bandwidth_knows_the_variant(name: str, mib: int, gb_s: float) -> None:
    assert bandwidth_by_name(name, mib) == gb_s


@pytest.mark.parametrize(
    ("name", "mib", "gb_s", "capability", "tier"),
    [
        ("NVIDIA GeForce RTX 4090", 49140, 1008, "8.9", Tier.AI_FACTORY),  # a modified card is what it is
        ("NVIDIA GeForce RTX 2080 Ti", 22528, 616, "7.5", Tier.GPU_PEER),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376, 576, "8.9", Tier.GPU_PEER),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 24463, 896, "12.0", Tier.GPU_PEER),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16384, 448, "8.6", Tier.GPU_INFRA),
        ("NVIDIA GeForce RTX 4060 Ti", 8188, 288, "8.9", Tier.GPU_INFRA),
        ("NVIDIA GeForce RTX 3080", 12288, 912, "8.6", Tier.GPU_INFRA),
        ("NVIDIA L40S", 46068, 864, "8.9", Tier.AI_FACTORY),  # ECC on
        ("NVIDIA L40S", 49140, 864, "8.9", Tier.AI_FACTORY),  # and off
        ("NVIDIA GH200 480GB", 97871, 4000, "9.0", Tier.AI_FACTORY),
        ("A100-SXM4-40GB", 40536, 1555, "8.0", Tier.AI_FACTORY),  # old drivers tell less
        ("NVIDIA A100-SXM4-80GB", 81251, 2039, "8.0", Tier.AI_FACTORY),
        ("Tesla T4", 15109, 320, "7.5", Tier.GPU_INFRA),
        ("Tesla V100-SXM2-16GB", 16160, 900, "7.0", Tier.GPU_PEER),
        ("GeForce RTX 3090", 24268, 936, "8.6", Tier.GPU_PEER),
        ("GeForce RTX 3060", 12053, 360, "8.6", Tier.GPU_INFRA),
    ],
)
def test_tier_follows_the_card_not_its_name(
    name: str, mib: int, gb_s: float, capability: str, tier: Tier
) -> None:
    for bandwidth in (gb_s, bandwidth_by_name(name, mib)):
        assert classify_gpu(GpuFacts(name, mib, bandwidth, capability))[0] is tier
