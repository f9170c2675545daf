"""The ledger in the words of the wire."""

from collections.abc import Sequence
from datetime import datetime

from compute_common.schemas.gpu import (
    GpuState,
    GpuStates,
    HostMemoryState,
    Reservation,
    ReservationHealth,
)
from gpu_orchestrator.devices import Device, GpuReading
from gpu_orchestrator.entries import RAM, Entry, Holder
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.observer import View


def reservation(entry: Entry, view: View | None = None) -> Reservation:
    """With what `view` shows of its GPUs and of what it is bound to."""
    used = [] if view is None else [device.own_mb.get(entry.reservation_id) for device in _on(entry, view)]
    return Reservation(
        reservation_id=entry.reservation_id,
        gpu_indices=list(entry.gpu_indices),
        reserved_mb=entry.reserved_mb,
        owner=entry.owner,
        model_name=entry.model_name,
        created_at=entry.created_at,
        expires_at=entry.expires_at,
        state=entry.state.value,
        bound_to=None if entry.holder is None else _holder(entry.holder),
        attribution=None if entry.holder is None or view is None else _attribution(entry, view),
        health="ok" if view is None else _health(entry, view),
        used_mb=max((mb for mb in used if mb is not None), default=None),
    )


def reservation_health(node_id: str, entry: Entry, view: View) -> ReservationHealth:
    return ReservationHealth(
        node_id=node_id,
        reservation_id=entry.reservation_id,
        owner=entry.owner,
        health=_health(entry, view),
    )


def _flagged(node_id: str, ledger: Ledger, view: View) -> list[ReservationHealth]:
    well = {device.key for device in view.devices.values() if device.health == "ok"}
    doubtful = [entry for entry in ledger.entries.values() if not well.issuperset(entry.devices)]
    every = [reservation_health(node_id, entry, view) for entry in doubtful]
    return [each for each in every if each.health != "ok"]


def _on(entry: Entry, view: View) -> list[Device]:
    return [view.devices[key] for key in entry.devices if key in view.devices]


def _health(entry: Entry, view: View) -> str:
    """What is wrong with the GPUs it is on."""
    if not entry.gpu_indices:
        return "ok"
    words = []
    for index, key in zip(entry.gpu_indices, entry.devices, strict=False):
        device = view.devices.get(key)
        if device is None:
            words.append(f"GPU {index} ({key}) is gone")
        elif device.health != "ok":
            words.append(f"{device.label} is {device.health}")
    return "; ".join(words) or "ok"


def _attribution(entry: Entry, view: View) -> str:
    assumed = any(device.attribution == "assumed" for device in _on(entry, view))
    return "assumed" if assumed else "process"


def _holder(holder: Holder) -> dict[str, object]:
    if holder.container_id is not None:
        return {"container_id": holder.container_id, "boot_id": holder.boot_id}
    return {
        "pid": holder.pid,
        "start_ticks": holder.start_ticks,
        "session_id": holder.session_id,
        "boot_id": holder.boot_id,
    }


def states(node_id: str, ledger: Ledger, view: View, now: datetime) -> GpuStates:
    owner = {pid: name for name, pids in view.members.items() for pid in pids if name in ledger.entries}
    gpus = [_gpu(node_id, ledger, view.devices[gpu.uuid], gpu, owner) for gpu in view.gpus]
    return GpuStates(
        node_id=node_id,
        gpus=gpus,
        count=len(gpus),
        host_memory=host_memory(ledger, view.devices[RAM]),
        flagged=_flagged(node_id, ledger, view),
        timestamp=now,
    )


def host_memory(ledger: Ledger, ram: Device) -> HostMemoryState:
    sums = ledger.balance(ram)
    return HostMemoryState(
        total_mb=ram.total_mb,
        used_mb=ram.used_mb,
        available_mb=sums.available_mb,
        reserved_mb=sums.reserved_mb,
        foreign_mb=sums.foreign_mb,
        reservations=_ids(ledger.on(ram)),
    )


def _gpu(node_id: str, ledger: Ledger, device: Device, gpu: GpuReading, owner: dict[int, str]) -> GpuState:
    sums = ledger.balance(device)
    return GpuState(
        node_id=node_id,
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        total_mb=device.total_mb,
        used_mb=device.used_mb,
        free_mb=max(0, device.total_mb - device.used_mb),
        reserved_mb=sums.reserved_mb,
        available_mb=sums.available_mb if ledger.usable(device) else 0,
        foreign_mb=sums.foreign_mb,
        utilization=gpu.utilization,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        reservations=_ids(ledger.on(device)),
        processes=[
            {"pid": p.pid, "used_mb": p.used_mb, "name": p.name, "reservation_id": owner.get(p.pid)}
            for p in gpu.processes
        ],
        attribution=device.attribution,
        health=gpu.health,
        cordoned=device.key in ledger.cordoned,
        schedulable=gpu.schedulable,
        parent_index=gpu.parent,
        unified=gpu.unified,
        links=[{"to": to, "kind": kind} for to, kind in sorted(gpu.links.items())],
    )


def _ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.reservation_id for entry in entries]
