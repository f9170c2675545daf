"""The generator's timer: what it notes of itself, and that it goes on looking."""

import time
from itertools import pairwise

from benchmark_runner.generator.heartbeat import QUICK_SECONDS, Heartbeat
from tests.support.waiting import until

BLOCKED = 0.1


async def test_a_process_that_stood_still_shows() -> None:
    stalls: list[float] = []
    looks: list[float] = []
    heart = Heartbeat(looks.append)
    heart.measure(stalls)
    time.sleep(BLOCKED)  # noqa: ASYNC251  (that is the point)
    await until(lambda: bool(stalls))
    assert stalls[0] >= BLOCKED - QUICK_SECONDS - 0.005
    assert all(stall >= 0 for stall in stalls)
    heart.measure(None)
    noted, before = len(stalls), len(looks)
    await until(lambda: len(looks) >= before + 2)
    assert len(stalls) == noted  # what happens between two cells is nobody's stall
    heart.stop()


async def test_it_goes_on_looking_while_it_measures_and_though_a_look_fails() -> None:
    looks: list[float] = []

    def look(now: float) -> None:
        looks.append(now)
        if len(looks) == 1:
            raise ValueError("a look")

    heart = Heartbeat(look)
    heart.measure([])
    await until(lambda: len(looks) >= 3)
    assert all(later - earlier >= QUICK_SECONDS for earlier, later in pairwise(looks))
    heart.stop()
