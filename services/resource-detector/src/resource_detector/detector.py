"""Detection off the event loop: one thread reads, everybody else gets the last reading."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from compute_common.times import utc_now
from resource_detector.findings import Hardware


@dataclass(frozen=True)
class Detected:
    hardware: Hardware
    at: datetime
    seconds: float


class Detector:
    """Caches the last detection; all reads happen in one thread, as NVML wants it."""

    def __init__(self, read: Callable[[], Hardware], close: Callable[[], None]) -> None:
        self._read = read
        self._close = close
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detect")
        self._running: asyncio.Future[Detected] | None = None
        self._last: Detected | None = None

    async def current(self) -> Detected:
        """The last detection, or the first one."""
        return self._last or await self.refresh()

    async def refresh(self) -> Detected:
        """A new detection; callers at the same time share one."""
        if self._running is None:
            self._running = asyncio.ensure_future(self._detect())
            self._running.add_done_callback(self._done)
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """End the thread after what it is reading now."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    async def _detect(self) -> Detected:
        loop = asyncio.get_running_loop()
        started = loop.time()
        hardware = await loop.run_in_executor(self._thread, self._read)
        self._last = Detected(hardware, utc_now(), loop.time() - started)
        return self._last

    def _done(self, _future: asyncio.Future[Detected]) -> None:
        self._running = None
