"""Runs one cell: prompts made beforehand, warm-up, a common start, closed-loop clients."""

import asyncio
import time
from collections.abc import Sequence

from benchmark_runner import prompts
from benchmark_runner.engine_client import EngineClient, Prompt
from benchmark_runner.matrix import CellPlan
from benchmark_runner.summary import Slo, summarise
from benchmark_runner.timing import RequestTiming
from compute_common.schemas.benchmark import Cell

CALIBRATIONS = 6
TOKENIZE_AT_ONCE = 8


async def run_cell(client: EngineClient, plan: CellPlan, slo: Slo) -> Cell:
    """The cell measured; a server that fails gives a cell that says so."""
    problem = await _settle_dialect(client, plan)
    if problem is not None:
        return summarise(plan, [_failed(problem)], slo, [f"a first short request failed ({problem})"])
    ready = await _prompts(client, plan)
    for number in range(plan.warmup):
        await client.complete(ready[-1 - number], min(plan.output_tokens, 16), time.perf_counter())
    start = asyncio.Event()
    begun = [0.0]
    clients = [
        asyncio.create_task(
            _client(client, ready[n :: plan.concurrency][: plan.iterations], plan, start, begun)
        )
        for n in range(plan.concurrency)
    ]
    try:
        await asyncio.sleep(0)  # every client stands at the barrier
        begun[0] = time.perf_counter()
        start.set()
        timings = [timing for part in await asyncio.gather(*clients) for timing in part]
    finally:
        for task in clients:
            task.cancel()
    return summarise(plan, timings, slo)


async def _client(
    client: EngineClient, own: Sequence[Prompt], plan: CellPlan, start: asyncio.Event, begun: list[float]
) -> list[RequestTiming]:
    """One after another; each is due the moment the one before has ended."""
    await start.wait()
    due = begun[0]
    timings = []
    for prompt in own:
        timing = await client.complete(prompt, plan.output_tokens, due)
        timings.append(timing)
        due = timing.ended
    return timings


async def _settle_dialect(client: EngineClient, plan: CellPlan) -> str | None:
    """Drop what the server refuses with 4xx; the error that stays, or None."""
    error: str | None = None
    for option in (None, "ignore_eos", "include_usage"):
        if option is not None:
            setattr(client.dialect, option, False)
        probe = prompts.text(prompts.seed_of(plan.seed, -1), 4)
        error = (await client.complete(probe, 1, time.perf_counter())).error
        if error not in ("http-400", "http-422"):
            return error
    client.dialect.ignore_eos = client.dialect.include_usage = True
    return error


async def _prompts(client: EngineClient, plan: CellPlan) -> list[Prompt]:
    """One for each request and each warm-up, `context_length` tokens long."""
    limit = asyncio.Semaphore(TOKENIZE_AT_ONCE)
    words = await _words_for(client, plan) if client.dialect.tokenize is None else plan.context_length

    async def one(number: int) -> Prompt:
        text = prompts.text(prompts.seed_of(plan.seed, number), max(1, words))
        async with limit:
            found = await client.tokens(text)
        return found[: plan.context_length] if found is not None else text

    return list(await asyncio.gather(*(one(n) for n in range(plan.requests + plan.warmup))))


async def _words_for(client: EngineClient, plan: CellPlan) -> int:
    """How many words make `context_length` tokens, by the server's own usage counts."""
    words = plan.context_length
    for attempt in range(CALIBRATIONS):
        text = prompts.text(prompts.seed_of(plan.seed, -2 - attempt), max(1, words))
        counted = (await client.complete(text, 1, time.perf_counter())).prompt_tokens
        if not counted or counted == plan.context_length:
            break
        better = max(1, round(words * plan.context_length / counted))
        if better == words:
            break
        words = better
    return words


def _failed(error: str) -> RequestTiming:
    now = time.perf_counter()
    return RequestTiming(now, now, now, error=error)
