"""What is seen of this host's memory at one moment, and how much of it is still to be had."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpu_orchestrator.entries import RAM, Entry

SLICES_FROM = 100  # the slices of card n have the indices 100 × (n + 1) and up


def slice_index(card: int, number: int) -> int:
    """The index of a MIG slice: out of the way of cards, and telling which card it was cut from."""
    return SLICES_FROM * (card + 1) + number


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU; `used_mb` is None where the driver does not say."""

    pid: int
    used_mb: int | None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU, or one MIG slice of one, as its driver reports it, MiB.

    `health` is `ok` or why it takes nothing new. `links`: the GPUs it reaches over NVLink, and how.
    `unified`: no memory but the system's. A card in MIG mode is not `schedulable`: what can be reserved are
    its slices, whose `parent` it is.
    """

    index: int
    uuid: str
    name: str
    total_mb: int
    used_mb: int
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    processes_readable: bool = True
    health: str = "ok"
    links: Mapping[int, str] = field(default_factory=dict)
    unified: bool = False
    schedulable: bool = True
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class RamReading:
    """This host's memory as this process may use it (container limits applied), MiB.

    `machine_…` is the whole machine's, which an integrated GPU draws on whatever this container's limit;
    None: the same.
    """

    total_mb: int
    available_mb: int
    swap_total_mb: int = 0
    swap_free_mb: int = 0
    pressure: float | None = None
    machine_total_mb: int | None = None
    machine_available_mb: int | None = None

    @property
    def used_mb(self) -> int:
        return max(0, self.total_mb - self.available_mb)

    @property
    def machine_mb(self) -> tuple[int, int]:
        """Total and used of the whole machine."""
        total = self.total_mb if self.machine_total_mb is None else self.machine_total_mb
        free = self.available_mb if self.machine_available_mb is None else self.machine_available_mb
        return total, max(0, total - free)


@dataclass(frozen=True, slots=True)
class Device:
    """A device the ledger reserves on. `own_mb` is the observed use of each bound reservation.

    `pool` names further devices whose reservations draw on the same memory, and `under` is a larger memory
    that this one is a part of: what is gone there is gone here. `parent` is the key of the card that a slice
    was cut from. `health` is `ok`, or why it takes nothing new.
    """

    key: str
    index: int | None
    total_mb: int
    used_mb: int
    margin_mb: int = 0
    own_mb: Mapping[str, int] = field(default_factory=dict)
    health: str = "ok"
    attribution: str = "process"
    links: Mapping[int, str] = field(default_factory=dict)
    pool: frozenset[str] = frozenset()
    under: "Device | None" = None
    parent: str | None = None

    @property
    def label(self) -> str:
        return "host RAM" if self.key == RAM else f"GPU {self.index}"

    @property
    def is_slice(self) -> bool:
        return self.parent is not None

    def shares(self, entry: Entry) -> int:
        """How many times the size of `entry` is promised of this memory; 0 when it is on other devices."""
        if not self.pool:  # nearly always, and asked for every reservation of every decision
            return entry.devices.count(self.key)
        return sum(1 for key in entry.devices if key == self.key or key in self.pool)


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

    `entries`: all living reservations, or at least those that share the device. Foreign is use that belongs
    to no bound reservation. A reservation that outgrew its size counts with what it really uses, so that
    another one's unused promise is never lent out.
    """
    living = list(entries)
    sums = _balance(device, living)
    if device.under is None:
        return sums
    left = min(sums.available_mb, _balance(device.under, living).available_mb)
    gone = max(sums.committed_mb, device.total_mb - device.margin_mb - left)
    return Balance(sums.reserved_mb, sums.foreign_mb, gone, left, sums.promised_unused_mb)


def _balance(device: Device, entries: Iterable[Entry]) -> Balance:
    reserved = claimed = own = unused = 0
    for entry in entries:
        promised = device.shares(entry) * entry.reserved_mb
        if promised:
            used = device.own_mb.get(entry.reservation_id, 0)
            reserved += promised
            own += used
            claimed += max(promised, used)
            unused += max(0, promised - used)
    foreign = max(0, device.used_mb - own)
    committed = max(foreign + claimed, device.used_mb)
    return Balance(
        reserved_mb=reserved,
        foreign_mb=foreign,
        committed_mb=committed,
        available_mb=max(0, device.total_mb - committed - device.margin_mb),
        promised_unused_mb=unused,
    )
