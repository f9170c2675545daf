"""What is seen of this host's memory at one moment, and how much of it is still to be had."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpu_orchestrator.entries import RAM, Entry


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU; `used_mb` is None where the driver does not say."""

    pid: int
    used_mb: int | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU as its driver reports it, MiB."""

    index: int
    uuid: str
    name: str
    total_mb: int
    used_mb: int
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    processes_readable: bool = True
    health: str = "ok"
    links: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RamReading:
    """This host's memory as this process may use it (container limits applied), MiB."""

    total_mb: int
    available_mb: int
    swap_total_mb: int = 0
    swap_free_mb: int = 0
    pressure: float | None = None

    @property
    def used_mb(self) -> int:
        return max(0, self.total_mb - self.available_mb)


@dataclass(frozen=True, slots=True)
class Device:
    """A device the ledger reserves on. `own_mb` is the observed use of each bound reservation."""

    key: str
    index: int | None
    total_mb: int
    used_mb: int
    margin_mb: int = 0
    own_mb: Mapping[str, int] = field(default_factory=dict)
    health: str = "ok"
    attribution: str = "process"
    links: frozenset[int] = frozenset()

    @property
    def label(self) -> str:
        return "host RAM" if self.key == RAM else f"GPU {self.index}"


@dataclass(frozen=True, slots=True)
class Balance:
    """Where the memory of a device goes, MiB. `committed` = what is used or promised."""

    reserved_mb: int
    foreign_mb: int
    committed_mb: int
    available_mb: int
    promised_unused_mb: int


def balance(device: Device, entries: Iterable[Entry]) -> Balance:
    """What a new reservation may take: total − max(foreign + reservations, observed use) − margin.

    Foreign is use that belongs to no bound reservation. A reservation that outgrew its size counts with what
    it really uses, so that another one's unused promise is never lent out.
    """
    reserved = claimed = own = unused = 0
    for entry in entries:
        used = device.own_mb.get(entry.reservation_id, 0)
        reserved += entry.reserved_mb
        own += used
        claimed += max(entry.reserved_mb, used)
        unused += max(0, entry.reserved_mb - used)
    foreign = max(0, device.used_mb - own)
    committed = max(foreign + claimed, device.used_mb)
    return Balance(
        reserved_mb=reserved,
        foreign_mb=foreign,
        committed_mb=committed,
        available_mb=max(0, device.total_mb - committed - device.margin_mb),
        promised_unused_mb=unused,
    )
