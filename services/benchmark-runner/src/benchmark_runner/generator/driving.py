"""Drives a cell: a closed loop of clients, or requests at random moments; what each took goes into a list."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmark_runner.generator.client import EngineClient
from benchmark_runner.plan import CellPlan
from benchmark_runner.timing import RequestTiming

Took = Callable[[RequestTiming], None]
LEAD_SECONDS = 0.02  # between the call and the first request of an open loop
AHEAD_CONNECTIONS = 64
SPIN_SECONDS = 0.001


async def closed_loop(
    client: EngineClient, plan: CellPlan, requests: Sequence[bytes], repeat: int, took: Took
) -> None:
    """All clients start at once; each sends its next request the moment the one before has ended."""
    await client.connect_ahead(plan.concurrency)
    start = asyncio.Event()
    begun = [0.0]

    async def one(own: Sequence[bytes]) -> None:
        await start.wait()
        due = begun[0]
        for request in own:
            timing = await client.stream(request, plan.output_tokens, due)
            took(replace(timing, repeat=repeat))
            due = timing.ended

    clients = [asyncio.create_task(one(requests[n :: plan.concurrency])) for n in range(plan.concurrency)]
    await asyncio.sleep(0)  # every client stands at the barrier
    begun[0] = time.perf_counter()
    start.set()
    await _all(clients)


async def open_loop(
    client: EngineClient, plan: CellPlan, requests: Sequence[bytes], repeat: int, took: Took
) -> None:
    """Requests leave at Poisson moments, whatever became of the ones before.

    One that would be more than `concurrency` under way is not sent: it counts as the error `backlog`.
    """
    offsets = arrivals(plan.seed + repeat, plan.rate or 1.0, len(requests))
    await client.connect_ahead(min(plan.concurrency, AHEAD_CONNECTIONS, len(requests)))
    begun = time.perf_counter() + LEAD_SECONDS
    under_way: set[asyncio.Task[None]] = set()

    async def one(request: bytes, due: float) -> None:
        timing = await client.stream(request, plan.output_tokens, due)
        took(replace(timing, repeat=repeat, scheduled=True))

    try:
        for request, offset in zip(requests, offsets, strict=True):
            due = begun + offset
            await _until(due)
            if len(under_way) >= plan.concurrency:
                took(RequestTiming(due, due, due, error="backlog", scheduled=True, repeat=repeat))
                continue
            task = asyncio.create_task(one(request, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    except asyncio.CancelledError:
        for task in under_way:
            task.cancel()
        raise
    await _all(list(under_way))


def arrivals(seed: int, rate: float, count: int) -> list[float]:
    """Moments of a Poisson process, seconds from its start: exponential gaps with mean 1/`rate`. Pure."""
    dice = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    moments, now = [], 0.0
    for _ in range(count):
        now += dice.expovariate(rate)
        moments.append(now)
    return moments


async def _until(moment: float) -> None:
    """A timer of the event loop is up to a millisecond late: the last one is spent looking at the clock."""
    await asyncio.sleep(0)  # what was started before begins, however late this is
    remaining = moment - time.perf_counter()
    if remaining > SPIN_SECONDS:
        await asyncio.sleep(remaining - SPIN_SECONDS)
    while time.perf_counter() < moment:  # noqa: ASYNC110  (no event tells the time)
        await asyncio.sleep(0)


async def _all(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Until every one has ended; none outlives this call."""
    try:
        if tasks:
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
