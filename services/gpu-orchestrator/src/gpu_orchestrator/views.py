"""The ledger in the words of the wire."""

from collections.abc import Sequence
from datetime import datetime

from compute_common.schemas.gpu import GpuState, GpuStates, HostMemoryState, Reservation
from gpu_orchestrator.devices import Device, GpuReading
from gpu_orchestrator.entries import RAM, Entry, Holder
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.observer import View


def reservation(entry: Entry) -> Reservation:
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
    )


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
    gpus = [_gpu(node_id, ledger, view.devices[gpu.uuid], gpu) for gpu in view.gpus]
    return GpuStates(
        node_id=node_id,
        gpus=gpus,
        count=len(gpus),
        host_memory=host_memory(ledger, view.devices[RAM]),
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


def _gpu(node_id: str, ledger: Ledger, device: Device, gpu: GpuReading) -> GpuState:
    sums = ledger.balance(device)
    return GpuState(
        node_id=node_id,
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        total_mb=gpu.total_mb,
        used_mb=gpu.used_mb,
        free_mb=max(0, gpu.total_mb - gpu.used_mb),
        reserved_mb=sums.reserved_mb,
        available_mb=sums.available_mb if ledger.usable(device) else 0,
        foreign_mb=sums.foreign_mb,
        utilization=gpu.utilization,
        temperature_c=gpu.temperature_c,
        power_w=gpu.power_w,
        reservations=_ids(ledger.on(device)),
        processes=[{"pid": process.pid, "used_mb": process.used_mb} for process in gpu.processes],
        attribution=device.attribution,
        health=gpu.health,
        cordoned=device.key in ledger.cordoned,
    )


def _ids(entries: Sequence[Entry]) -> list[str]:
    return [entry.reservation_id for entry in entries]
