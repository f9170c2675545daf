"""Background tasks: ended for certain, repeated for ever."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog

from compute_common.problems import Problem

log = structlog.get_logger("tasks")

AGAIN_SECONDS = 0.1


async def end_tasks(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancel until they have ended: Python 3.11's `wait_for`, inside nats-py, may swallow one of them."""
    waiting = {task for task in tasks if task is not None and not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _done, waiting = await asyncio.wait(waiting, timeout=AGAIN_SECONDS)


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` every so often, first after `seconds`; a failure is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Problem as problem:  # a refusal says itself what it is about
            detail = problem.detail
            log.warning("periodic work put off", cause=problem.cause, detail=detail, again_in_seconds=seconds)
        except Exception:
            log.exception("periodic work failed")
