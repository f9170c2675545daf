"""MIG: the slices of a card. Work is scheduled on them; the card itself takes none."""

from collections.abc import Iterator
from typing import Any

from resource_detector.findings import SliceFound
from resource_detector.sources.nvml import Card, text_of

MIB = 1 << 20
MOST_SLICES = 16


def mig_enabled(card: Card) -> bool:
    mode = card.quietly("nvmlDeviceGetMigMode")
    return bool(mode) and mode[0] == 1


def read_slices(card: Card) -> tuple[SliceFound, ...]:
    """The slices that were made on this card, each with its own id and memory."""
    found = tuple(_slice(card, handle) for handle in _handles(card))
    card.source("slices", "nvmlDeviceGetMigDeviceHandleByIndex")
    if not found:
        card.notes.warn(f"GPU {card.index}: MIG is on but no slice was made; nothing can run on it")
    return found


def _handles(card: Card) -> Iterator[Any]:
    count = card.quietly("nvmlDeviceGetMaxMigDeviceCount") or 0
    for number in range(min(count, MOST_SLICES)):
        handle = card.quietly("nvmlDeviceGetMigDeviceHandleByIndex", number)
        if handle is not None:
            yield handle


def _slice(card: Card, handle: Any) -> SliceFound:
    def told(call: str) -> Any:
        return card.quietly(call, handle=handle)

    memory, attributes = told("nvmlDeviceGetMemoryInfo"), told("nvmlDeviceGetAttributes")
    total = int(memory.total) // MIB if memory is not None else 0
    if not total and attributes is not None:
        total = int(attributes.memorySizeMB)
    return SliceFound(
        uuid=text_of(told("nvmlDeviceGetUUID")),
        name=text_of(told("nvmlDeviceGetName")) or "MIG slice",
        vram_mb=total or None,
        vram_used_mb=int(memory.used) // MIB if memory is not None and total else None,
        gpu_instance=told("nvmlDeviceGetGpuInstanceId"),
        compute_instance=told("nvmlDeviceGetComputeInstanceId"),
    )
