"""Memory bandwidth by a GPU's name, for where the driver does not tell.

Published peak figures in GB/s. The first pattern that matches wins, so the longer names stand first.
"""

import re
from functools import lru_cache

_TABLE: tuple[tuple[str, float], ...] = (
    (r"B300", 7700),
    (r"B200", 7672),
    (r"GH200 144G", 4900),
    (r"GH200", 4000),
    (r"H20\b", 4000),
    (r"H200", 4800),
    (r"H100 NVL", 3938),
    (r"H100 PCIe", 2039),
    (r"H100", 3350),
    (r"A100-SXM4-80GB", 2039),
    (r"A100.*80GB", 1935),
    (r"A100", 1555),
    (r"A40\b", 696),
    (r"A30\b", 933),
    (r"A10G?\b", 600),
    (r"L40S?\b", 864),
    (r"L4\b", 300),
    (r"Tesla T4", 320),
    (r"V100", 900),
    (r"P100", 732),
    (r"RTX PRO 6000 Blackwell", 1792),
    (r"RTX 6000 Ada", 960),
    (r"RTX A6000", 768),
    (r"Quadro RTX 6000", 672),
    (r"RTX 5090 Laptop", 896),
    (r"RTX 5090", 1792),
    (r"RTX 5080 Laptop", 896),
    (r"RTX 5080", 960),
    (r"RTX 5070 Ti Laptop", 672),
    (r"RTX 5070 Ti", 896),
    (r"RTX 5070 Laptop", 384),
    (r"RTX 5070", 672),
    (r"RTX 5060", 448),
    (r"RTX 4090 Laptop", 576),
    (r"RTX 4090", 1008),
    (r"RTX 4080 Laptop", 432),
    (r"RTX 4080 SUPER", 736),
    (r"RTX 4080", 717),
    (r"RTX 4070 Ti SUPER", 672),
    (r"RTX 4070 Laptop", 256),
    (r"RTX 4070", 504),
    (r"RTX 4060 Ti", 288),
    (r"RTX 4060", 272),
    (r"RTX 3090 Ti", 1008),
    (r"RTX 3090", 936),
    (r"RTX 3080 Ti Laptop", 512),
    (r"RTX 3080 Ti", 912),
    (r"RTX 3080 Laptop", 448),
    (r"RTX 3080", 760),
    (r"RTX 3070 Ti(?! Laptop)", 608),
    (r"RTX 3070", 448),
    (r"RTX 3060 Laptop", 336),
    (r"RTX 3060", 360),
    (r"RTX 2080 Ti", 616),
    (r"GB10\b", 273),
    (r"Orin NX", 102),
    (r"Orin Nano", 68),
    (r"Orin", 204),
    (r"AGX Xavier", 137),
    (r"Thor", 273),
    (r"MI35[05]X", 8000),
    (r"MI325X", 6000),
    (r"MI308X", 5300),
    (r"MI300X", 5300),
    (r"MI250X?", 1638),
    (r"MI210", 1638),
    (r"MI100", 1229),
    (r"7900 XTX", 960),
    (r"7900 XT\b", 800),
    (r"7900 GRE", 576),
    (r"8060S", 256),
    (r"W7900", 864),
    (r"9070 XT", 640),
    (r"Max 1550", 3277),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), value) for pattern, value in _TABLE)
# Sold under one name with unlike memory: (pattern, MiB from, MiB below, GB/s), checked first.
_BY_SIZE = tuple(
    (re.compile(pattern, re.IGNORECASE), least, below, value)
    for pattern, least, below, value in (
        (r"RTX 3080(?! Ti| Laptop)", 12_000, 16_000, 912),
        (r"RTX 3060(?! Ti| Laptop)", 0, 9_000, 240),
    )
)


@lru_cache(maxsize=1024)  # fleets hold few kinds of cards, documents name them again and again
def bandwidth_by_name(name: str, vram_mb: int | None = None) -> float | None:
    """GB/s of the product called `name` (with `vram_mb` MiB); None for one the table does not know."""
    if vram_mb is not None:
        for pattern, least, below, value in _BY_SIZE:
            if least <= vram_mb < below and pattern.search(name):
                return value
    return next((value for pattern, value in _PATTERNS if pattern.search(name)), None)
