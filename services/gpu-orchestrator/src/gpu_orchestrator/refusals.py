"""Why a reservation is refused, in words and MiB a person can act on."""

from collections.abc import Mapping, Sequence
from typing import Any

from compute_common.problems import Problem, conflict
from gpu_orchestrator.devices import SLICES_FROM, Device


def no_gpu() -> Problem:
    """409: this host has no GPU at all."""
    return conflict(
        "no-gpu",
        "this host has no GPU that its driver reports; send gpu_indices [] to reserve host RAM, or ask a "
        "host with a GPU (?node_id=)",
    )


def unknown_gpu(unknown: Sequence[int], known: Sequence[int]) -> Problem:
    """409: an index this host does not have."""
    return conflict(
        "unknown-gpu",
        f"no GPU {_join(unknown)} on this host; it has {_join(sorted(known))}",
        known_indices=sorted(known),
    )


def not_usable(devices: Sequence[tuple[Device, str]]) -> Problem:
    """409: cordoned or unhealthy."""
    reasons = "; ".join(f"{device.label} is {why}" for device, why in devices)
    return conflict(
        "gpu-not-usable",
        f"{reasons}: it takes no new reservation",
        gpus=[{"index": device.index, "reason": why} for device, why in devices],
    )


def no_room(
    required_mb: int,
    targets: Sequence[Device],
    short: Sequence[tuple[Device, int]],
    available: Mapping[int, int],
) -> Problem:
    """409 with the shortfall of each device, what would fit, and a hint when a total was sent per GPU."""
    shortfall = [
        {
            "device": device.label,
            "gpu_index": device.index,
            "required_mb": required_mb,
            "available_mb": free,
            "shortfall_mb": required_mb - free,
        }
        for device, free in short
    ]
    words = "; ".join(
        f"{device.label} has {free} MiB available, {required_mb - free} MiB short" for device, free in short
    )
    would_fit = _would_fit(required_mb, targets, short, available)
    return conflict(
        "insufficient-memory",
        f"{required_mb} MiB do not fit: {words}. {would_fit.pop('hint')}",
        shortfall=shortfall,
        would_fit=would_fit,
    )


def _would_fit(
    required_mb: int,
    targets: Sequence[Device],
    short: Sequence[tuple[Device, int]],
    available: Mapping[int, int],
) -> dict[str, Any]:
    most = min(free for _, free in short)
    answer: dict[str, Any] = {"max_required_mb": most, "gpu_indices": [], "hint": ""}
    per_gpu = -(-required_mb // len(targets))
    if len(targets) > 1 and per_gpu <= most:
        answer["required_mb_per_gpu"] = per_gpu
        answer["hint"] = f"required_mb is per GPU: for {required_mb} MiB in total send {per_gpu}"
        return answer
    roomy = [index for index, free in available.items() if free >= required_mb]
    if len(targets) > 1:  # slices do not join
        roomy = [index for index in roomy if index < SLICES_FROM]
    roomy.sort(key=lambda index: available[index])
    if targets[0].index is not None and len(roomy) >= len(targets):
        answer["gpu_indices"] = sorted(roomy[: len(targets)])
        answer["hint"] = f"GPU {_join(answer['gpu_indices'])} would take it"
    elif most > 0:
        answer["hint"] = f"At most {most} MiB would fit there now"
    else:
        answer["hint"] = "Nothing fits there now; release a reservation or end what uses the memory"
    return answer


def _join(indices: Sequence[int]) -> str:
    return ", ".join(str(index) for index in indices) or "none"
