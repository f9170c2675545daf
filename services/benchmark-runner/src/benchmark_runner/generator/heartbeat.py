"""The generator's one timer: it looks after the answers under way, and tells how late it was itself.

One, because a process that wakes up for a timer pays about what it pays for a token.
"""

import asyncio
import time
from collections.abc import Callable

LOOK_SECONDS = 0.1
QUICK_SECONDS, QUICK_BEATS = 0.02, 100  # a cell of two seconds has a hundred: one lone stall spoils no p99
STEADY_SECONDS = 0.05  # a longer one has more of them anyway


class Heartbeat:
    """Calls `look(now)` about every LOOK_SECONDS until it is stopped."""

    def __init__(self, look: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._look = look
        self._looked = time.perf_counter()
        self._stalls: list[float] | None = None
        self._wait(LOOK_SECONDS)

    def measure(self, stalls: list[float] | None) -> None:
        """From now on note in `stalls` how late each beat was, seconds: what was read meanwhile was stamped
        as late. None: no longer."""
        self._stalls = stalls
        self._timer.cancel()
        self._wait(LOOK_SECONDS if stalls is None else QUICK_SECONDS)

    def stop(self) -> None:
        self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._due = time.perf_counter() + seconds
        self._timer = self._loop.call_later(seconds, self._beat)

    def _beat(self) -> None:
        now, stalls = time.perf_counter(), self._stalls
        pause = LOOK_SECONDS
        if stalls is not None:
            stalls.append(max(0.0, now - self._due))
            pause = QUICK_SECONDS if len(stalls) < QUICK_BEATS else STEADY_SECONDS
        self._wait(pause)
        if now + QUICK_SECONDS / 2 >= self._looked + LOOK_SECONDS:  # a timer may be a little early
            self._looked = now
            self._look(now)
