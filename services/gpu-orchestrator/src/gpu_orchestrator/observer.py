"""Reads memory and processes of this host into the ledger's devices, in one thread of its own."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from compute_common.reading_thread import ReadingThread
from gpu_orchestrator import processes
from gpu_orchestrator.attribution import Members, Sight, devices_of, foreign_floors
from gpu_orchestrator.card import lost
from gpu_orchestrator.devices import Device, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry
from gpu_orchestrator.host_memory import read_ram
from gpu_orchestrator.membership import Membership
from gpu_orchestrator.nvml import Nvml
from gpu_orchestrator.vitals import SILENT

MAX_AGE_SECONDS = 0.25
SILENT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look. `members` has an entry for each reservation that was bound when it was taken."""

    devices: dict[str, Device]
    gpus: tuple[GpuReading, ...]
    ram: RamReading
    members: dict[str, frozenset[int]]
    taken_at: float


class Observer:
    """`margins`: MiB never promised, of each GPU and of RAM. `ram` and `gpus` may be other sources.

    A driver that does not answer within two seconds makes its GPUs `not answering`; nothing waits for it.
    """

    def __init__(
        self,
        margins: tuple[int, int],
        ram: Callable[[], RamReading] = read_ram,
        gpus: Callable[[], tuple[GpuReading, ...]] | None = None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self.nvml = Nvml()
        self._margins = margins
        self._ram = ram
        self._gpus = gpus or self.nvml.read
        self._silent_seconds = silent_seconds
        self._silent = False
        self._thread = ReadingThread("observer")
        self._splitting = Splitting(margins)
        self._running: asyncio.Future[View] | None = None
        self.view: View | None = None

    async def observe(self, entries: Sequence[Entry]) -> View:
        """A new look."""
        if self._silent and self._busy():
            return await self._without_driver(entries)
        try:
            async with asyncio.timeout(self._silent_seconds):
                if self._running is not None and self._busy():
                    await asyncio.wait([self._running])
                self._running = self._thread.run(partial(self._look, tuple(entries)))
                self.view = await asyncio.shield(self._running)
        except TimeoutError:
            self._silent = True
            return await self._without_driver(entries)
        self._silent = False
        return self.view

    async def fresh(self, entries: Sequence[Entry]) -> View:
        """The last look when it is at most a quarter of a second old, else a new one that callers share."""
        if self.view is not None and time.monotonic() - self.view.taken_at < MAX_AGE_SECONDS:
            return self.view
        if self._running is not None and self._busy() and not self._silent:
            try:
                async with asyncio.timeout(self._silent_seconds):
                    return await asyncio.shield(self._running)
            except TimeoutError:
                return await self._without_driver(entries)
        return await self.observe(entries)

    @property
    def detail(self) -> str | None:
        """What is wrong with the driver; None when nothing is, or there is none."""
        if self._silent:
            return f"the GPU driver has not answered for {self._silent_seconds:g} seconds"
        return self.nvml.detail

    def close(self) -> None:
        """Nobody waits long for a driver that hangs."""
        self._thread.stop(self.nvml.close, wait_seconds=self._silent_seconds)

    def _busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def _look(self, entries: Sequence[Entry]) -> View:
        taken_at = time.monotonic()
        return self._splitting.view(self._gpus(), self._ram(), entries, taken_at)

    async def _without_driver(self, entries: Sequence[Entry]) -> View:
        """Host RAM as it is now, and the GPUs that were there before as not answering."""
        known = self.view.gpus if self.view is not None else ()
        gpus = tuple(lost(gpu, SILENT) for gpu in known)

        def look() -> View:
            return self._splitting.view(gpus, self._ram(), entries, time.monotonic())

        self.view = await asyncio.to_thread(look)
        return self.view


class Splitting:
    """From readings to devices: whose the use is, and what was there before anything was reserved."""

    def __init__(self, margins: tuple[int, int]) -> None:
        self._margins = margins
        self._membership = Membership()
        self._same_pids = processes.in_first_namespace()
        self._floors: dict[str, int] = {}
        self._one_at_a_time = threading.Lock()

    def view(
        self, gpus: tuple[GpuReading, ...], ram: RamReading, entries: Sequence[Entry], taken_at: float
    ) -> View:
        with self._one_at_a_time:
            gpu_pids = {process.pid for gpu in gpus for process in gpu.processes}
            living = self._membership.living(entries, gpu_pids, taken_at)
            self._floors = foreign_floors(self._floors, gpus, ram, entries)
            sight = Sight(living, _resident(gpus, entries, living), self._floors, self._same_pids)
            devices = devices_of(gpus, ram, entries, sight, margins=self._margins)
            return View(devices, self._named(gpus), ram, living, taken_at)

    def _named(self, gpus: tuple[GpuReading, ...]) -> tuple[GpuReading, ...]:
        """With the names of the processes, where the driver's pids are ours."""
        if not self._same_pids:
            return gpus
        return tuple(
            replace(gpu, processes=tuple(replace(p, name=processes.name_of(p.pid)) for p in gpu.processes))
            if gpu.processes
            else gpu
            for gpu in gpus
        )


def _resident(gpus: Sequence[GpuReading], entries: Sequence[Entry], living: Members) -> dict[int, int]:
    """Unreclaimable RAM of every process that holds RAM, or a GPU that shares it."""
    sharing = {RAM, *(gpu.uuid for gpu in gpus if gpu.unified)}
    names = [entry.reservation_id for entry in entries if not sharing.isdisjoint(entry.devices)]
    pids = {pid for name in names for pid in living.get(name, ())}
    return {pid: processes.unreclaimable_mb(pid) for pid in pids}
