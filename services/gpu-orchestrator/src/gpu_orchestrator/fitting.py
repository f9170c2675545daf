"""Which GPUs would take a workload: pure, over the ledger and the devices as seen now."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.ledger import Devices, Ledger


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer to can-fit: where, or why not and what would."""

    fits: bool
    gpu_indices: tuple[int, ...]
    reason: str
    alternatives: tuple[dict[str, Any], ...] = field(default=())


def can_fit(ledger: Ledger, devices: Devices, required_mb: int, gpu_count: int, prefer_nvlink: bool) -> Fit:
    """`gpu_count` GPUs with `required_mb` MiB each (0 = host RAM); the fullest that still fit come first.

    With `prefer_nvlink` a set in which every pair is linked wins over a tighter fit; links are those the
    driver reports.
    """
    if gpu_count == 0:
        return _fit_ram(ledger, devices[RAM], required_mb)
    free = {d.index: ledger.balance(d).available_mb for d in _usable(ledger, devices)}
    gpus = sorted(_usable(ledger, devices), key=lambda d: (free[d.index], d.index))
    if not gpus:
        return Fit(False, (), "this host has no usable GPU", _ram_alternative(ledger, devices, required_mb))
    roomy = [device for device in gpus if free[device.index] >= required_mb]
    if len(roomy) < gpu_count:
        return _no_fit([(d, free[d.index]) for d in gpus], required_mb, gpu_count)
    chosen = roomy[:gpu_count]
    reason = (
        f"{gpu_count} of {len(gpus)} usable GPUs have {required_mb} MiB available; the fullest were taken"
    )
    if prefer_nvlink and gpu_count > 1:
        linked = _linked_set(roomy, gpu_count)
        chosen = linked or chosen
        reason += ", every pair linked" if linked else "; no linked set of that size, so without fast links"
    return Fit(True, tuple(sorted(_index(d) for d in chosen)), reason)


def _usable(ledger: Ledger, devices: Devices) -> list[Device]:
    return [d for d in devices.values() if d.index is not None and ledger.usable(d)]


def _index(device: Device) -> int:
    return -1 if device.index is None else device.index


def _fit_ram(ledger: Ledger, ram: Device, required_mb: int) -> Fit:
    available = ledger.balance(ram).available_mb
    if available >= required_mb:
        return Fit(True, (), f"host RAM has {available} MiB available")
    short = required_mb - available
    reason = f"host RAM has {available} MiB available, {short} MiB short"
    return Fit(False, (), reason, ({"required_mb": available, "gpu_count": 0},) if available else ())


def _ram_alternative(ledger: Ledger, devices: Devices, required_mb: int) -> tuple[dict[str, Any], ...]:
    available = ledger.balance(devices[RAM]).available_mb
    return ({"required_mb": required_mb, "gpu_count": 0},) if available >= required_mb else ()


def _no_fit(gpus: Sequence[tuple[Device, int]], required_mb: int, gpu_count: int) -> Fit:
    """`gpus` from the fullest to the emptiest."""
    roomy = sum(1 for _, free in gpus if free >= required_mb)
    emptiest = sorted((free for _, free in gpus), reverse=True)
    reason = (
        f"{roomy} of {len(gpus)} usable GPUs have {required_mb} MiB available, {gpu_count} are asked for; "
        f"the emptiest has {emptiest[0]} MiB, {max(0, required_mb - emptiest[0])} MiB short"
    )
    alternatives: list[dict[str, Any]] = []
    if len(emptiest) >= gpu_count and emptiest[gpu_count - 1] > 0:
        alternatives.append({"gpu_count": gpu_count, "required_mb": emptiest[gpu_count - 1]})
    total = required_mb * gpu_count
    for count in range(1, len(emptiest) + 1):
        per_gpu = -(-total // count)
        if count != gpu_count and emptiest[count - 1] >= per_gpu:
            alternatives.append({"gpu_count": count, "required_mb": per_gpu})
            break
    return Fit(False, (), reason, tuple(alternatives))


def _linked_set(gpus: Sequence[Device], count: int) -> list[Device] | None:
    """`count` GPUs of which every pair is linked, grown from each in turn; None when none is found."""
    for seed in gpus:
        chosen = [seed]
        for other in gpus:
            if other is not seed and all(other.index in member.links for member in chosen):
                chosen.append(other)
            if len(chosen) == count:
                return chosen
    return None
