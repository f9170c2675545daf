"""The load generator as the service sees it: a child process that measures one cell at a time."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from benchmark_runner.generator import frames
from benchmark_runner.generator.patience import Patience
from benchmark_runner.generator.samples import timing_of
from benchmark_runner.plan import CellPlan
from benchmark_runner.summary import Samples, refusal
from benchmark_runner.targets import Target
from compute_common.tasks import end_tasks

SILENT_SECONDS = 120.0  # it speaks every two, but making the prompts of a large cell keeps it busy
STOP_SECONDS = 3.0
Heard = Callable[[str, int, int], None]
# What a Python process needs to be found and to trust certificates; no secret of the service.
PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")


class GeneratorLostError(Exception):
    """The generator ended, or fell silent."""


class GeneratorProcess:
    """`api`: completions, chat, or None for what the server has. `key`: the target's API key.

    The key goes to the process by its standard input, where nobody else on this host can read it.
    """

    def __init__(
        self, target: Target, patience: Patience, api: str | None, *, key: str | None = None
    ) -> None:
        self._opening = {
            "base_url": target.base_url,
            "addresses": target.addresses,
            "key": key,
            "model": target.model,
            "patience": asdict(patience),
            "api": api,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmark_runner.generator",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        self._reader = asyncio.create_task(self._read(self._process), name="generator-reader")
        self._say({"open": self._opening})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await end_tasks([self._reader])

    async def cell(self, plan: CellPlan, heard: Heard) -> Samples:
        """The cell measured; raises GeneratorLostError. `heard(phase, done, total)` hears of progress."""
        self._say({"cell": asdict(plan)})
        return _samples(await self._answer(SILENT_SECONDS, heard), partial=False)

    async def stop(self) -> Samples | None:
        """End the cell under way; what it had measured by then, or None when it does not tell in time."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                self._say({"stop": True})
                return _samples(await self._answer(STOP_SECONDS, lambda *_: None), partial=True)
        except (TimeoutError, GeneratorLostError):
            return None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Whole messages into the queue, so that nobody who stops waiting leaves half of one behind."""
        try:
            while process.stdout is not None:
                self._messages.put_nowait(await frames.read(process.stdout))
        except (asyncio.IncompleteReadError, ValueError):
            self._messages.put_nowait(None)

    async def _answer(self, silent_seconds: float, heard: Heard) -> dict[str, Any]:
        while True:
            try:
                async with asyncio.timeout(silent_seconds):
                    message = await self._messages.get()
            except TimeoutError as error:
                raise GeneratorLostError("the load generator fell silent") from error
            if message is None:
                raise GeneratorLostError("the load generator ended; its log says why")
            if "cell" in message:
                answer: dict[str, Any] = message["cell"]
                return answer
            heard(*message["progress"])

    def _say(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin if self._process is not None else None
        if stdin is not None:
            with contextlib.suppress(ConnectionError):
                stdin.write(frames.packed(message))


def _samples(answer: dict[str, Any], *, partial: bool) -> Samples:
    problem = answer["problem"]
    return Samples(
        timings=[timing_of(sample) for sample in answer["samples"]],
        stalls=[stall / 1e6 for stall in answer["stalls_us"]],
        cpu_seconds=answer["cpu_seconds"],
        problem=problem,
        partial=partial,
        notes=[refusal(problem)] if problem else [],
    )
