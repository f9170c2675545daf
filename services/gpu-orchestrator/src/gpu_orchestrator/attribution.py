"""Whose memory is it: observed use split over bound reservations, so that nothing is counted twice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpu_orchestrator.devices import Device, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry, State

Members = Mapping[str, frozenset[int]]
Usage = Mapping[int, int]
"""MiB by pid."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What else is seen, beside the readings.

    `members`: living pids of each bound reservation; `resident_mb`: unreclaimable RAM of those on RAM or on a
    GPU that shares it; `foreign_floor_mb`: by GPU, use from before anything was reserved there;
    `same_pids`: drivers tell the pids that we see (not so in a container of its own pids).
    """

    members: Members = field(default_factory=dict)
    resident_mb: Usage = field(default_factory=dict)
    foreign_floor_mb: Mapping[str, int] = field(default_factory=dict)
    same_pids: bool = True


def devices_of(
    gpus: Sequence[GpuReading],
    ram: RamReading,
    entries: Iterable[Entry],
    sight: Sight = Sight(),
    *,
    margins: tuple[int, int],
) -> dict[str, Device]:
    """The ledger's devices out of the readings, RAM first.

    `margins`: MiB kept free on each GPU and of RAM (there at most a twentieth of it).
    """
    bound = [entry for entry in entries if entry.state is State.BOUND]
    on_ram = [entry for entry in bound if RAM in entry.devices]
    shared = [gpu for gpu in gpus if gpu.unified]
    host = Device(
        key=RAM,
        index=None,
        total_mb=ram.total_mb,
        used_mb=ram.used_mb,
        margin_mb=min(margins[1], ram.total_mb // 20),
        own_mb=_by_process(on_ram, sight.members, _with_gpu_memory(sight.resident_mb, shared)),
    )
    devices = {RAM: host}
    for gpu in gpus:
        device = _gpu_device(gpu, gpus, bound, sight, margins[0])
        if gpu.unified:
            device = _sharing_ram(device, ram, _Pool.of(shared, bound, sight), sight)
            device = replace(device, margin_mb=max(margins[0], host.margin_mb))
            devices[RAM] = replace(host, under=device)
        devices[gpu.uuid] = device
    return devices


def _gpu_device(
    gpu: GpuReading, gpus: Sequence[GpuReading], bound: Sequence[Entry], sight: Sight, margin_mb: int
) -> Device:
    here = [entry for entry in bound if gpu.uuid in entry.devices]
    readable = _readable(gpu, here, sight)
    if readable:
        own = _by_process(here, sight.members, _usage(gpu))
    else:
        own = _assumed(here, gpu.used_mb - sight.foreign_floor_mb.get(gpu.uuid, 0))
    return Device(
        key=gpu.uuid,
        index=gpu.index,
        total_mb=gpu.total_mb,
        used_mb=gpu.used_mb,
        margin_mb=margin_mb,
        own_mb=own,
        health=_health(gpu, gpus),
        attribution="process" if readable else "assumed",
        links=gpu.links,
        parent=next((card.uuid for card in gpus if card.index == gpu.parent), None),
    )


@dataclass(frozen=True, slots=True)
class _Pool:
    """Memory that RAM and integrated GPUs share: their keys, its bound reservations and what these use."""

    keys: frozenset[str]
    entries: tuple[Entry, ...]
    own_mb: Mapping[str, int]

    @classmethod
    def of(cls, shared: Sequence[GpuReading], bound: Sequence[Entry], sight: Sight) -> "_Pool":
        keys = frozenset([RAM, *(gpu.uuid for gpu in shared)])
        entries = tuple(entry for entry in bound if not keys.isdisjoint(entry.devices))
        used_mb = _with_gpu_memory(sight.resident_mb, shared)
        return cls(keys, entries, _by_process(entries, sight.members, used_mb))


def _sharing_ram(device: Device, ram: RamReading, pool: _Pool, sight: Sight) -> Device:
    """The machine's RAM as the GPU that draws on it: reservations of either count."""
    total_mb, used_mb = ram.machine_mb
    own = dict(pool.own_mb)
    if device.attribution == "assumed":
        here = [entry for entry in pool.entries if device.key in entry.devices]
        left = used_mb - sum(own.values()) - sight.foreign_floor_mb.get(device.key, 0)
        for name, more in _assumed(here, left, own).items():
            own[name] += more
    return replace(device, total_mb=total_mb, used_mb=used_mb, own_mb=own, pool=pool.keys - {device.key})


def _readable(gpu: GpuReading, here: Sequence[Entry], sight: Sight) -> bool:
    """Whether use can be told apart by process. Other pids than ours prove themselves by a known one."""
    if not gpu.processes_readable or any(process.used_mb is None for process in gpu.processes):
        return False
    listed = {process.pid for process in gpu.processes}
    return sight.same_pids or any(
        not listed.isdisjoint(sight.members.get(entry.reservation_id, ())) for entry in here
    )


def _health(gpu: GpuReading, gpus: Sequence[GpuReading]) -> str:
    """`ok`, or why the ledger gives nothing of it; a card that is cut gives nothing itself."""
    if gpu.schedulable or gpu.health != "ok":
        return gpu.health
    slices = ", ".join(str(part.index) for part in gpus if part.parent == gpu.index)
    return f"in MIG mode (reserve its slices: {slices})" if slices else "in MIG mode and has no slice yet"


def _usage(gpu: GpuReading) -> dict[int, int]:
    return {process.pid: process.used_mb or 0 for process in gpu.processes}


def _with_gpu_memory(resident_mb: Usage, shared: Sequence[GpuReading]) -> dict[int, int]:
    """What a driver takes for a process is not in the process's own RAM."""
    total = dict(resident_mb)
    for gpu in shared:
        for pid, used in _usage(gpu).items():
            total[pid] = total.get(pid, 0) + used
    return total


def _by_process(entries: Sequence[Entry], members: Members, used_mb: Usage) -> dict[str, int]:
    """Use of each reservation's processes; a process two of them name counts for the older one only."""
    taken: set[int] = set()
    own: dict[str, int] = {}
    for entry in entries:
        pids = members.get(entry.reservation_id, frozenset()) - taken
        taken |= pids
        own[entry.reservation_id] = sum(used_mb.get(pid, 0) for pid in pids)
    return own


def _assumed(
    entries: Sequence[Entry], used_mb: int, known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Where use per process is unreadable: up to each bound size (less what is known) is its own."""
    own: dict[str, int] = {}
    left = max(0, used_mb)
    for entry in entries:
        room = max(0, entry.reserved_mb - (known or {}).get(entry.reservation_id, 0))
        own[entry.reservation_id] = min(left, room)
        left -= own[entry.reservation_id]
    return own


def foreign_floors(
    before: Mapping[str, int], gpus: Iterable[GpuReading], ram: RamReading, entries: Sequence[Entry]
) -> dict[str, int]:
    """By GPU: what was in use while nothing was reserved on it, at most what is in use now.

    An engine of ours starts after its reservation: so much is foreign, though nobody tells whose it is.
    """
    reserved = {key for entry in entries for key in entry.devices}
    floors = {}
    for gpu in gpus:
        used = ram.machine_mb[1] if gpu.unified else gpu.used_mb
        idle = gpu.uuid not in reserved and not (gpu.unified and RAM in reserved)
        floors[gpu.uuid] = used if idle else min(used, before.get(gpu.uuid, 0))
    return floors
