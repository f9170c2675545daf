"""Which GPUs would take a workload: pure, over the ledger and the devices as seen now."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any

from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.ledger import Devices, Ledger

MOST_SETS = 2_000  # more are not all tried: such machines have switches, where every set is as good


@dataclass(frozen=True, slots=True)
class Fit:
    """The answer to can-fit: where, or why not and what would. `linked`: pairs that are joined."""

    fits: bool
    gpu_indices: tuple[int, ...]
    reason: str
    alternatives: tuple[dict[str, Any], ...] = field(default=())
    linked: tuple[tuple[int, int], ...] = ()
    shortfall: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class _Free:
    """A usable GPU and the MiB that are to be had on it."""

    device: Device
    mb: int

    @property
    def index(self) -> int:
        return -1 if self.device.index is None else self.device.index


def can_fit(ledger: Ledger, devices: Devices, required_mb: int, gpu_count: int, prefer_nvlink: bool) -> Fit:
    """`gpu_count` GPUs with `required_mb` MiB each (0 = host RAM); the fullest that still fit come first.

    With `prefer_nvlink` the set with the most linked pairs wins over a tighter fit; links are those that the
    driver reports. MIG slices do not join, so several GPUs are whole ones.
    """
    if gpu_count == 0:
        return _fit_ram(ledger, devices[RAM], required_mb)
    usable = [d for d in devices.values() if d.index is not None and ledger.usable(d)]
    if gpu_count > 1:
        usable = [device for device in usable if not device.is_slice]
    gpus = sorted((_Free(d, ledger.balance(d).available_mb) for d in usable), key=lambda g: (g.mb, g.index))
    if not gpus:
        return Fit(False, (), _no_usable(devices), _ram_alternative(ledger, devices, required_mb))
    roomy = [gpu for gpu in gpus if gpu.mb >= required_mb]
    if len(roomy) < gpu_count:
        return _no_fit(gpus, required_mb, gpu_count)
    reason = f"{len(roomy)} of {len(gpus)} usable GPUs have {required_mb} MiB available"
    if not prefer_nvlink or gpu_count == 1:
        return _chosen(roomy[:gpu_count], f"{reason}; the fullest that fit were taken")
    best = _most_linked(roomy, gpu_count)
    return _chosen(best, f"{reason}; {_why_linked(best)}")


def _chosen(gpus: Sequence[_Free], reason: str) -> Fit:
    return Fit(True, tuple(sorted(gpu.index for gpu in gpus)), reason, linked=_linked_pairs(gpus))


def _most_linked(gpus: Sequence[_Free], count: int) -> list[_Free]:
    """The set with the most linked pairs, of those the fullest (`gpus` come fullest first)."""
    if comb(len(gpus), count) <= MOST_SETS:
        sets = [list(each) for each in combinations(gpus, count)]
    else:
        sets = [_grown(seed, gpus, count) for seed in gpus]
    return max(sets, key=lambda each: (len(_linked_pairs(each)), -sum(gpu.mb for gpu in each)))


def _grown(seed: _Free, gpus: Sequence[_Free], count: int) -> list[_Free]:
    chosen = [seed]
    while len(chosen) < count:
        left = [gpu for gpu in gpus if gpu not in chosen]
        chosen.append(max(left, key=lambda gpu: sum(1 for one in chosen if _joined(one, gpu))))
    return chosen


def _linked_pairs(gpus: Sequence[_Free]) -> tuple[tuple[int, int], ...]:
    ordered = sorted(gpus, key=lambda gpu: gpu.index)
    return tuple((one.index, other.index) for one, other in combinations(ordered, 2) if _joined(one, other))


def _joined(one: _Free, other: _Free) -> bool:
    return other.index in one.device.links or one.index in other.device.links


def _why_linked(gpus: Sequence[_Free]) -> str:
    pairs = _linked_pairs(gpus)
    by_index = {gpu.index: gpu.device for gpu in gpus}
    names = ", ".join(f"{one}-{other} ({by_index[one].links.get(other, 'nvlink')})" for one, other in pairs)
    if not pairs:
        return "no two of them are linked, so the fullest that fit were taken, without fast links"
    if len(pairs) == comb(len(gpus), 2):
        return f"this set was taken because every pair is linked: {names}"
    return f"no set has every pair linked; this one has the most links: {names}"


# --- when it does not fit


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


def _no_usable(devices: Devices) -> str:
    sick = [f"{d.label} is {d.health}" for d in devices.values() if d.index is not None and d.health != "ok"]
    return "; ".join(["this host has no usable GPU", *sick])


def _no_fit(gpus: Sequence[_Free], required_mb: int, gpu_count: int) -> Fit:
    """`gpus` from the fullest to the emptiest."""
    emptiest = list(reversed(gpus))
    short = [gpu for gpu in emptiest if gpu.mb < required_mb]
    words = "; ".join(f"{g.device.label} has {g.mb} MiB, {required_mb - g.mb} MiB short" for g in short[:8])
    reason = (
        f"{len(gpus) - len(short)} of {len(gpus)} usable GPUs have {required_mb} MiB available, "
        f"{gpu_count} are asked for{f'; {words}' if words else ''}"
    )
    return Fit(
        fits=False,
        gpu_indices=(),
        reason=reason,
        alternatives=tuple(_alternatives([gpu.mb for gpu in emptiest], required_mb, gpu_count)),
        shortfall=tuple(
            {"gpu_index": g.index, "available_mb": g.mb, "shortfall_mb": required_mb - g.mb} for g in short
        ),
    )


def _alternatives(emptiest_mb: Sequence[int], required_mb: int, gpu_count: int) -> list[dict[str, Any]]:
    """What would fit: less on each of as many GPUs, or the same in total over another number of them."""
    found: list[dict[str, Any]] = []
    if len(emptiest_mb) >= gpu_count and emptiest_mb[gpu_count - 1] > 0:
        found.append({"gpu_count": gpu_count, "required_mb": emptiest_mb[gpu_count - 1]})
    for count in range(1, len(emptiest_mb) + 1):
        per_gpu = -(-required_mb * gpu_count // count)
        if count != gpu_count and emptiest_mb[count - 1] >= per_gpu:
            found.append({"gpu_count": count, "required_mb": per_gpu})
            break
    return found
