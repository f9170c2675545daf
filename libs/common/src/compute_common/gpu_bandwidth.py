"""Memory bandwidth by a GPU's name, for where the driver does not tell.

Published peak figures in GB/s. The first pattern that matches wins, so the longer names stand first.
"""

import re

_TABLE: tuple[tuple[str, float], ...] = (
    (r"B300", 7700),
    (r"B200", 7672),
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
    (r"RTX 5070 Ti(?! Laptop)", 896),
    (r"RTX 5070(?! Laptop)", 672),
    (r"RTX 5060", 448),
    (r"RTX 4090 Laptop", 576),
    (r"RTX 4090", 1008),
    (r"RTX 4080 Laptop", 432),
    (r"RTX 4080", 717),
    (r"RTX 4070 Ti SUPER", 672),
    (r"RTX 4070(?! Laptop)", 504),
    (r"RTX 4060 Ti", 288),
    (r"RTX 4060", 272),
    (r"RTX 3090 Ti", 1008),
    (r"RTX 3090", 936),
    (r"RTX 3080 Ti(?! Laptop)", 912),
    (r"RTX 3080(?! Laptop)", 760),
    (r"RTX 3070", 448),
    (r"RTX 3060", 360),
    (r"RTX 2080 Ti", 616),
    (r"GB10\b", 273),
    (r"Orin", 204),
    (r"Thor", 273),
    (r"MI325X", 6000),
    (r"MI300X", 5300),
    (r"MI250X?", 1638),
    (r"MI210", 1638),
    (r"MI100", 1229),
    (r"7900 XTX", 960),
    (r"7900 XT\b", 800),
    (r"W7900", 864),
    (r"9070 XT", 640),
    (r"Max 1550", 3277),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), value) for pattern, value in _TABLE)


def bandwidth_by_name(name: str) -> float | None:
    """GB/s of the product called `name`; None for one the table does not know."""
    return next((value for pattern, value in _PATTERNS if pattern.search(name)), None)
