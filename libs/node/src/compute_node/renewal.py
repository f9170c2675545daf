"""Renewing the lease of an item while it is here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

FIRST_SECONDS = 1.0
AGAIN_SECONDS = 5.0


class Renewal:
    """Calls `renew` after a second and then every five, until `stop`. A quick item costs a timer, no task."""

    def __init__(self, renew: Callable[[], Awaitable[None]]) -> None:
        self._renew = renew
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.get_running_loop().call_later(FIRST_SECONDS, self._begin)

    def stop(self) -> None:
        self._first.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._repeat())

    async def _repeat(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the next one follows
                await self._renew()
            await asyncio.sleep(AGAIN_SECONDS)
