"""Detection off the event loop: one thread reads, everybody else gets the last reading."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from compute_common.problems import unavailable
from compute_common.reading_thread import ReadingThread
from compute_common.times import utc_now
from resource_detector.findings import Hardware

PATIENCE_SECONDS = 5.0
FAREWELL_SECONDS = 1.0


@dataclass(frozen=True)
class Detected:
    hardware: Hardware
    at: datetime
    seconds: float


class Detector:
    """Caches the last detection. A driver that never answers costs freshness, not the service."""

    def __init__(
        self, read: Callable[[], Hardware], close: Callable[[], None], patience: float = PATIENCE_SECONDS
    ) -> None:
        self._read = read
        self._close = close
        self._patience = patience
        self._thread = ReadingThread("detect")
        self._running: asyncio.Future[Detected] | None = None
        self._last: Detected | None = None
        self.stalled = False

    @property
    def last(self) -> Detected | None:
        return self._last

    async def current(self) -> Detected:
        """The last detection, or the first one."""
        return self._last or await self.refresh()

    async def refresh(self) -> Detected:
        """A new detection, shared by callers at the same time; the last one while a driver does not answer.

        503 where there is none yet.
        """
        if self._running is None:
            self._running = asyncio.ensure_future(self._detect())
            self._running.add_done_callback(self._done)
        done, _late = await asyncio.wait([self._running], timeout=self._patience)
        self.stalled = not done
        if done:
            return done.pop().result()
        if self._last is None:
            raise unavailable("detection-stalled", STALLED)
        return self._last

    async def close(self) -> None:
        """End the thread; one that is stuck in a driver is left behind."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._thread.run(self._close), FAREWELL_SECONDS)
        self._thread.stop()
        if self._running is not None:
            self._running.cancel()

    async def _detect(self) -> Detected:
        loop = asyncio.get_running_loop()
        started = loop.time()
        hardware = await self._thread.run(self._read)
        self._last = Detected(hardware, utc_now(), loop.time() - started)
        return self._last

    def _done(self, future: asyncio.Future[Detected]) -> None:
        self._running = None
        if not future.cancelled():
            future.exception()  # heard here too, when every caller has gone


STALLED = "the hardware could not be read in time; look for a hung GPU driver (dmesg, nvidia-smi)"
