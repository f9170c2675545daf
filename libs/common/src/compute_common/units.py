"""Memory units: `_mb` is MiB and `_gb` is GiB everywhere on the wire."""

MIB = 1024 * 1024
LABEL_SHARE = 0.93  # a "24 GB" 4090 has 24,564 MiB: a filter by label is met from 93 % of it


def gib_to_mib(gib: float) -> int:
    """Whole MiB in `gib` GiB, rounded to nearest."""
    return round(gib * 1024)


def mib_to_gib(mib: float) -> float:
    """GiB with two decimals, for answers people read."""
    return round(mib / 1024, 2)


def label_to_mib(gb: float) -> float:
    """The least MiB a card sold as `gb` GB may report and still meet a filter for it."""
    return LABEL_SHARE * gb * 1024
