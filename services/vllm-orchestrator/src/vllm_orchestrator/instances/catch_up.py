"""Keeping up with the bucket: what its storage does not let be done now is said once, and done soon."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from compute_common.bus import Bus
from compute_common.problems import Problem

log = structlog.get_logger("instances")

AGAIN_SECONDS = 2.0


class CatchUp:
    """`behind` from a failure, while NATS is connected, to the next success; disconnected, the bus speaks."""

    def __init__(self, bus: Bus, every_seconds: float) -> None:
        self._bus = bus
        self._every_seconds = every_seconds
        self._behind = asyncio.Event()

    @property
    def behind(self) -> bool:
        return self._behind.is_set()

    async def attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it now; a refusal is one line of the log; anything else is ours, with its traceback."""
        try:
            await work()
        except Problem as problem:
            self._fell_behind(problem)
        except Exception:
            log.exception("following instances failed")
        else:
            if self.behind:
                log.info("instance records are up to date again")
            self._behind.clear()

    async def rest(self) -> None:
        """Until it is time to repeat: soon while something is to be made up for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._every_seconds):
                await self._behind.wait()
        if self.behind:
            await asyncio.sleep(AGAIN_SECONDS)

    def _fell_behind(self, problem: Problem) -> None:
        if not self._bus.connected:
            log.debug("not repeated", cause=problem.cause)
            return
        if not self.behind:
            log.warning(
                "instance records are behind; engines go on, and the records are tried again",
                reason=problem.detail,
                cause=problem.cause,
                again_in_seconds=AGAIN_SECONDS,
            )
        self._behind.set()
