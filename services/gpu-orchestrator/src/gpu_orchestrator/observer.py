"""Reads memory and processes of this host into the ledger's devices, in one thread of its own."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gpu_orchestrator import processes
from gpu_orchestrator.attribution import devices_of
from gpu_orchestrator.devices import Device, GpuReading, RamReading
from gpu_orchestrator.entries import RAM, Entry, State
from gpu_orchestrator.host_memory import read_ram
from gpu_orchestrator.nvml import Nvml
from gpu_orchestrator.sessions import members

MAX_AGE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class View:
    """One consistent look. `members` has an entry for each reservation that was bound when it was taken."""

    devices: dict[str, Device]
    gpus: tuple[GpuReading, ...]
    ram: RamReading
    members: dict[str, frozenset[int]]
    taken_at: float


class Observer:
    """`margins`: MiB never promised, of each GPU and of RAM. `ram` and `gpus` may be other sources."""

    def __init__(
        self,
        margins: tuple[int, int],
        ram: Callable[[], RamReading] = read_ram,
        gpus: Callable[[], tuple[GpuReading, ...]] | None = None,
    ) -> None:
        self.nvml = Nvml()
        self._margins = margins
        self._ram = ram
        self._gpus = gpus or self.nvml.read
        self._thread = _thread()
        self._boot_id = processes.boot_id()
        self._running: asyncio.Future[View] | None = None
        self.view: View | None = None

    async def observe(self, entries: Sequence[Entry]) -> View:
        """A new look."""
        loop = asyncio.get_running_loop()
        self._running = loop.run_in_executor(self._thread, self._look, tuple(entries))
        self.view = await asyncio.shield(self._running)
        return self.view

    async def fresh(self, entries: Sequence[Entry]) -> View:
        """The last look when it is at most a quarter of a second old, else a new one that callers share."""
        if self.view is not None and time.monotonic() - self.view.taken_at < MAX_AGE_SECONDS:
            return self.view
        if self._running is not None and not self._running.done():
            return await asyncio.shield(self._running)
        return await self.observe(entries)

    def close(self) -> None:
        self._thread.submit(self.nvml.close)
        self._thread.shutdown(wait=True)
        self._thread = _thread()

    def _look(self, entries: Sequence[Entry]) -> View:
        taken_at = time.monotonic()
        bound = [entry for entry in entries if entry.state is State.BOUND and entry.holder is not None]
        containers = any(entry.holder and entry.holder.container_id for entry in bound)
        table = processes.snapshot(containers) if bound else {}
        living = {
            entry.reservation_id: members(entry.holder, table, self._boot_id)
            for entry in bound
            if entry.holder is not None
        }
        on_ram = {pid for e in bound if RAM in e.devices for pid in living[e.reservation_id]}
        resident = {pid: processes.unreclaimable_mb(pid) for pid in on_ram}
        gpus, ram = self._gpus(), self._ram()
        devices = devices_of(gpus, ram, entries, living, resident, margins=self._margins)
        return View(devices, gpus, ram, living, taken_at)


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="observer")
