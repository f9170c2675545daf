"""Background tasks end for certain and survive their own failures."""

import asyncio
import contextlib

from structlog.testing import capture_logs

from compute_common.problems import unavailable
from compute_common.tasks import end_tasks, every
from tests.support.waiting import until


async def test_a_task_that_swallows_a_cancellation_still_ends() -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task, None]), 5)
    assert task.cancelled()


async def test_periodic_work_goes_on_after_a_failure() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("once")

    task = asyncio.create_task(every(0.01, work))
    await until(lambda: len(runs) >= 3)
    await end_tasks([task])


async def test_a_refusal_of_periodic_work_is_one_line_and_a_fault_has_its_traceback() -> None:
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        raise unavailable("storage", "not now") if len(runs) == 1 else ValueError("ours")

    with capture_logs() as told:
        task = asyncio.create_task(every(0.01, work))
        await until(lambda: len(runs) >= 2)
        await end_tasks([task])
    assert [(line["log_level"], "exc_info" in line) for line in told[:2]] == [
        ("warning", False),
        ("error", True),
    ]
    assert (told[0]["detail"], told[0]["again_in_seconds"]) == ("not now", 0.01)
