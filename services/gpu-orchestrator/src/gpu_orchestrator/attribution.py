"""Whose memory is it: observed use split over bound reservations, so that nothing is counted twice."""

from collections.abc import Iterable, Mapping, Sequence

from gpu_orchestrator.devices import Device, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry, State

Members = Mapping[str, frozenset[int]]


def devices_of(
    gpus: Sequence[GpuReading],
    ram: RamReading,
    entries: Iterable[Entry],
    members: Members,
    resident_mb: Mapping[int, int],
    *,
    margins: tuple[int, int],
) -> dict[str, Device]:
    """The ledger's devices out of the readings.

    `members`: living pids of each bound reservation; `resident_mb`: unreclaimable RAM of each of those pids;
    `margins`: MiB kept free on each GPU and of RAM (there at most a twentieth of it).
    """
    bound = [entry for entry in entries if entry.state is State.BOUND]
    on_ram = [entry for entry in bound if RAM in entry.devices]
    devices = {
        RAM: Device(
            key=RAM,
            index=None,
            total_mb=ram.total_mb,
            used_mb=ram.used_mb,
            margin_mb=min(margins[1], ram.total_mb // 20),
            own_mb=_by_process(on_ram, members, resident_mb),
        )
    }
    for gpu in gpus:
        devices[gpu.uuid] = _gpu_device(gpu, bound, members, margins[0])
    return devices


def _gpu_device(gpu: GpuReading, bound: Sequence[Entry], members: Members, margin_mb: int) -> Device:
    here = [entry for entry in bound if gpu.uuid in entry.devices]
    readable = gpu.processes_readable and all(process.used_mb is not None for process in gpu.processes)
    usage = {process.pid: process.used_mb or 0 for process in gpu.processes}
    own = _by_process(here, members, usage) if readable else _assumed(here, gpu.used_mb)
    return Device(
        key=gpu.uuid,
        index=gpu.index,
        total_mb=gpu.total_mb,
        used_mb=gpu.used_mb,
        margin_mb=margin_mb,
        own_mb=own,
        health=gpu.health,
        attribution="process" if readable else "assumed",
        links=gpu.links,
    )


def _by_process(entries: Sequence[Entry], members: Members, used_mb: Mapping[int, int]) -> dict[str, int]:
    """Use of each reservation's processes; a process two of them name counts for the older one only."""
    taken: set[int] = set()
    own: dict[str, int] = {}
    for entry in entries:
        pids = members.get(entry.reservation_id, frozenset()) - taken
        taken |= pids
        own[entry.reservation_id] = sum(used_mb.get(pid, 0) for pid in pids)
    return own


def _assumed(entries: Sequence[Entry], used_mb: int) -> dict[str, int]:
    """Where use per process is unreadable: up to each bound size is its own, the rest foreign."""
    own: dict[str, int] = {}
    left = used_mb
    for entry in entries:
        own[entry.reservation_id] = min(left, entry.reserved_mb)
        left -= own[entry.reservation_id]
    return own
