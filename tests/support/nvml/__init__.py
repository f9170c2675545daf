"""A `libnvidia-ml.so.1` of our own that plays a scenario, so that the real `nvidia-ml-py` runs without a GPU.

    library = build(folder)                      # once, by gcc
    played = Played(library, scenario, folder)   # writes the scenario's file
    subprocess.run(command, env={**os.environ, **played.environment})
    played.change(other)                         # seen by the next call into the library

The file: `key value` a line, `gpu` begins a GPU and `slice` a MIG slice of it; lines before the first GPU are
the host's. `error <function> <code>` makes a call fail, `lost` every call of that GPU. A value not given is
NotSupported.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20
SOURCES = ("nvml.c", "health.c", "scenario.c")
SONAME = "libnvidia-ml.so.1"

NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
GPU_IS_LOST = 15
VERSION_MISMATCH = 18


@dataclass(frozen=True)
class Slice:
    """One MIG slice; `values` as in `Gpu`."""

    name: str
    uuid: str
    memory_mib: int | None
    used_mib: int = 0
    values: dict[str, int | str] = field(default_factory=dict)
    processes: dict[int, int | None] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        yield "slice"
        yield from _lines(self.name, self.uuid, self.memory_mib, self.used_mib, self.values)
        yield from _processes(self.processes)


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    `values`: capability, pci, utilization, memory_clock_mhz, memory_bus_bits, temperature_c, power_mw,
    power_limit_mw, pcie_generation, pcie_width, ecc, mig, no_processes; of a failing one ecc_uncorrected,
    remapped_rows (corrected, uncorrected, pending, failed), retired_pages_pending, recovery_action.
    `memory_mib` None: both memory calls are NotSupported. `links`: "switch", "down" or the index of the GPU
    at the other end. `processes`: pid → bytes (None: not told). `xids`: critical events; those added while a
    program listens are told to it.
    """

    name: str
    uuid: str
    memory_mib: int | None
    used_mib: int = 0
    values: dict[str, int | str] = field(default_factory=dict)
    links: tuple[int | str, ...] = ()
    processes: dict[int, int | None] = field(default_factory=dict)
    slices: tuple[Slice, ...] = ()
    errors: dict[str, int] = field(default_factory=dict)
    lost: bool = False
    xids: tuple[int, ...] = ()

    def lines(self) -> Iterator[str]:
        yield "gpu"
        yield from _lines(self.name, self.uuid, self.memory_mib, self.used_mib, self.values)
        yield from (f"link {link}" for link in self.links)
        yield from _processes(self.processes)
        yield from (f"xid {number}" for number in self.xids)
        yield from (f"error {name} {code}" for name, code in self.errors.items())
        yield from ["lost"] * self.lost
        for part in self.slices:
            yield from part.lines()


@dataclass(frozen=True)
class Scenario:
    """A machine. `cuda` as NVML counts (12080 is 12.8); `errors`: function (or `nvmlInit`) → code.

    `old_driver` takes the library without the newer symbols; `delay_ms` makes every call slow.
    """

    gpus: tuple[Gpu, ...] = ()
    driver: str = "570.86.10"
    cuda: int = 12080
    errors: dict[str, int] = field(default_factory=dict)
    old_driver: bool = False
    delay_ms: int = 0

    def text(self) -> str:
        host = [f"driver {self.driver}", f"cuda {self.cuda}", f"delay_ms {self.delay_ms}"]
        host += [f"error {name} {code}" for name, code in self.errors.items()]
        return "\n".join([*host, *(line for gpu in self.gpus for line in gpu.lines())]) + "\n"


class Played:
    """A scenario on disk, and the environment of a program that is to see it."""

    def __init__(self, library: Path, scenario: Scenario, folder: Path) -> None:
        self._file = folder / "nvml-scenario.txt"
        kind = "old" if scenario.old_driver else "current"
        self.environment = {
            "LD_LIBRARY_PATH": str(library / kind),
            "NVML_SCENARIO": str(self._file),
        }
        self.change(scenario)

    def change(self, scenario: Scenario) -> None:
        """At once and whole: a running program sees the old machine or the new one."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(scenario.text(), encoding="utf-8", errors="surrogateescape")
        fresh.replace(self._file)


def compiler() -> str | None:
    """A C compiler, or None."""
    return shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")


def build(folder: Path) -> Path:
    """Compile both libraries into `folder`, which is the answer; CalledProcessError where gcc refuses."""
    here = Path(__file__).parent
    for kind, flags in (("current", []), ("old", ["-DOLD_DRIVER"])):
        target = folder / kind / SONAME
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                compiler() or "gcc",
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-O1",
                "-shared",
                "-fPIC",
                f"-Wl,-soname,{SONAME}",
                *flags,
                *(str(here / name) for name in SOURCES),
                "-o",
                str(target),
                "-lpthread",
            ],
            check=True,
        )
    return folder


def _lines(
    name: str, uuid: str, memory_mib: int | None, used_mib: int, values: dict[str, int | str]
) -> Iterator[str]:
    yield f"name {name}"
    yield f"uuid {uuid}"
    if memory_mib is not None:
        yield f"memory {memory_mib * MIB} {used_mib * MIB}"
    yield from (f"{key} {value}" for key, value in values.items())


def _processes(processes: dict[int, int | None]) -> Iterator[str]:
    for pid, size in processes.items():
        yield f"process {pid}" if size is None else f"process {pid} {size}"
