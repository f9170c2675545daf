"""Waiting for a condition with a deadline, never for luck."""

import asyncio
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Return when `condition()` holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(POLL_SECONDS)
