"""What was found out about a host, and where each value was read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from compute_common.nvlink import LinkFound

T = TypeVar("T")


@dataclass
class Notes:
    """Collects, during one detection, the source of each value and what could not be read."""

    sources: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def source(self, name: str, where: str) -> None:
        self.sources[name] = where

    def forget(self, prefix: str) -> None:
        """Drop the sources of what is not there after all."""
        self.sources = {name: where for name, where in self.sources.items() if not name.startswith(prefix)}

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def attempt(self, what: str, read: Callable[[], T]) -> T | None:
        """`read()`, or None with a warning: one failed read costs nothing else."""
        try:
            return read()
        except (
            OSError,
            ValueError,
            RuntimeError,
            ImportError,
            KeyError,
            IndexError,
            AttributeError,
        ) as error:
            self.warn(f"{what} could not be read ({type(error).__name__})")
            return None


@dataclass(frozen=True)
class CpuFound:
    """`cores` and `threads` are what this program may use, `host_threads` what the machine has."""

    cores: int
    threads: int
    host_threads: int
    model_name: str | None = None
    frequency_mhz: float | None = None
    flags: frozenset[str] = frozenset()
    numa: tuple["NumaNode", ...] = ()


@dataclass(frozen=True)
class NumaNode:
    """A node without CPUs is memory of a device: HBM of a GH200, CXL."""

    number: int
    cpus: int
    memory_mb: int


@dataclass(frozen=True)
class MemoryFound:
    """MiB, container limits applied; `host_…` is the machine without them."""

    total_mb: int
    available_mb: int
    host_total_mb: int
    host_available_mb: int
    swap_total_mb: int = 0
    swap_free_mb: int = 0


@dataclass(frozen=True)
class SliceFound:
    """One MIG slice: work is scheduled on it, not on the card it was cut from."""

    uuid: str | None
    name: str
    vram_mb: int | None
    vram_used_mb: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True)
class GpuFound:
    """One card (of AMD: one die). `unified`: it uses the system's RAM; `coherent`: it can, beside its own."""

    index: int
    name: str
    vendor: str
    vram_mb: int | None
    vram_used_mb: int | None = None
    uuid: str | None = None
    compute_capability: str | None = None
    bandwidth_gb_s: float | None = None
    driver_version: str | None = None
    utilization: float | None = None
    unified: bool = False
    coherent: bool = False
    links: tuple[LinkFound, ...] = ()
    pci_bus_id: str | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    ecc: bool | None = None
    mig: bool = False
    slices: tuple[SliceFound, ...] = ()


@dataclass(frozen=True)
class HostFound:
    hostname: str
    os: str
    machine: str
    kernel: str
    boot_id: str | None
    wsl: bool
    container: bool
    ipv4: str | None
    interfaces: tuple["Interface", ...] = ()
    disks: tuple["Disk", ...] = ()


@dataclass(frozen=True)
class Interface:
    name: str
    ipv4: str | None
    speed_mbps: int | None


@dataclass(frozen=True)
class Disk:
    path: str
    total_mb: int
    free_mb: int


@dataclass(frozen=True)
class Hardware:
    """One detection of one host."""

    cpu: CpuFound
    memory: MemoryFound
    gpus: tuple[GpuFound, ...]
    host: HostFound
    sources: dict[str, str]
    warnings: tuple[str, ...]
    driver_version: str | None = None
    cuda_version: str | None = None
