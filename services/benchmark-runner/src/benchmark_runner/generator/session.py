"""One target, cell after cell: prepares, warms up, measures, and watches over the generator itself."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmark_runner.generator.client import EngineClient
from benchmark_runner.generator.dialect import Api
from benchmark_runner.generator.driving import closed_loop, open_loop
from benchmark_runner.generator.preparing import PromptMaker, learn, settle
from benchmark_runner.generator.samples import flat
from benchmark_runner.plan import CellPlan
from benchmark_runner.timing import RequestTiming

WARMUP_TOKENS = 16
AT_ONCE = 8  # prompts made together: ids weigh ten times what they weigh as a request
Phase = Callable[[str, int, int], None]


@dataclass(slots=True)
class Measured:
    """What a cell has so far."""

    timings: list[RequestTiming]
    stalls: list[float]
    cpu_seconds: float = 0.0
    problem: str | None = None

    def message(self) -> dict[str, Any]:
        zero = min((timing.due for timing in self.timings), default=0.0)
        return {
            "samples": [flat(timing, zero) for timing in self.timings],
            "stalls_us": [round(stall * 1e6) for stall in self.stalls],
            "cpu_seconds": self.cpu_seconds,
            "problem": self.problem,
        }


class Session:
    """`said(phase, done, total)` hears of progress."""

    def __init__(self, client: EngineClient, api: Api | None, said: Phase) -> None:
        self._client = client
        self._api = api
        self._said = said
        self._learnt = False
        self.measured = Measured([], [])

    async def cell(self, plan: CellPlan) -> Measured:
        """The cell measured; `self.measured` fills up meanwhile. A server that fails is a `problem`."""
        self.measured = measured = Measured([], [])
        self._said("preparing", 0, plan.requests * plan.repeats)
        if not self._learnt:
            await learn(self._client, self._api)
            self._learnt = True
        measured.problem = await settle(self._client, plan, self._api)
        if measured.problem is None:
            await self._measure(plan, measured)
        return measured

    async def _measure(self, plan: CellPlan, measured: Measured) -> None:
        total = plan.requests * plan.repeats
        maker = PromptMaker(self._client, plan)
        await maker.get_ready()
        requests: list[bytes] = []
        for start in range(0, total, AT_ONCE):
            some = await maker.make(range(start, min(start + AT_ONCE, total)))
            requests += [self._client.prepare(prompt, plan.output_tokens) for prompt in some]
            self._said("preparing", len(requests), total)
        self._said("warm-up", 0, total)
        for prompt in await maker.make(range(total, total + plan.warmup)):
            await self._client.complete(prompt, min(plan.output_tokens, WARMUP_TOKENS))

        def took(timing: RequestTiming) -> None:
            measured.timings.append(timing)
            self._said("measuring", len(measured.timings), total)

        self._client.heartbeat.measure(measured.stalls)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection in the middle would show as a gap of the server
        used = time.process_time()
        try:
            drive = closed_loop if plan.rate is None else open_loop
            for repeat in range(plan.repeats):
                own = requests[repeat * plan.requests : (repeat + 1) * plan.requests]
                await drive(self._client, plan, own, repeat, took)
        finally:
            measured.cpu_seconds = time.process_time() - used
            gc.enable()
            self._client.heartbeat.measure(None)
