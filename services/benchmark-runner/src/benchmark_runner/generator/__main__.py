"""`python -m benchmark_runner.generator`: a target and cells on standard input, samples on standard output.

In: `{"open": {base_url, addresses, key, model, api, patience}}` once, then `{"cell": {…}}` or
`{"stop": true}`.
Out: `{"progress": [phase, done, total]}` meanwhile, `{"cell": {…}}` at the end of each, whole or stopped.
"""

import asyncio
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmark_runner.generator import frames
from benchmark_runner.generator.client import EngineClient
from benchmark_runner.generator.patience import Patience
from benchmark_runner.generator.session import Session
from benchmark_runner.plan import CellPlan

TELL_SECONDS = 0.25
ALIVE_SECONDS = 2.0


class Speaker:
    """Writes to standard output: progress four times a second at most, a sign of life every two seconds."""

    def __init__(self) -> None:
        self._told = 0.0
        self._last: tuple[str, int, int] = ("", 0, 0)

    def progress(self, phase: str, done: int, total: int) -> None:
        now = time.perf_counter()
        news = phase != self._last[0]
        self._last = (phase, done, total)
        if news or now - self._told >= TELL_SECONDS:
            self._told = now
            self.say({"progress": self._last})

    async def stay_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            self.say({"progress": self._last})

    def say(self, message: dict[str, Any]) -> None:
        data = frames.packed(message)
        while data:
            data = data[os.write(1, data) :]


async def serve() -> None:
    """Until standard input ends."""
    reader = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    speaker = Speaker()
    opened = (await frames.read(reader))["open"]
    patience = Patience(**opened["patience"])
    client = EngineClient(
        opened["base_url"], opened["model"], patience, opened["addresses"], key=opened["key"]
    )
    session = Session(client, opened["api"], speaker.progress)
    alive = asyncio.create_task(speaker.stay_alive())
    work: asyncio.Task[None] | None = None
    try:
        while True:
            message = await frames.read(reader)
            if work is not None:
                work.cancel()
                await asyncio.wait([work])
            if "cell" in message:
                work = asyncio.create_task(_cell(session, CellPlan(**message["cell"]), speaker))
                work.add_done_callback(_end_with_it)
    finally:
        alive.cancel()
        await client.close()


async def _cell(session: Session, plan: CellPlan, speaker: Speaker) -> None:
    try:
        await session.cell(plan)
    except asyncio.CancelledError:
        speaker.say({"cell": session.measured.message()})
        raise
    speaker.say({"cell": session.measured.message()})


def _end_with_it(work: "asyncio.Task[None]") -> None:
    """A fault in here ends the process: the service then knows."""
    if not work.cancelled() and (error := work.exception()) is not None:
        traceback.print_exception(error)
        os._exit(1)


def _loop() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """uvloop's where it is installed: waking up for one token costs it two thirds as much."""
    try:
        import uvloop  # noqa: PLC0415  (absent on Windows)
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    with (
        contextlib.suppress(asyncio.IncompleteReadError, BrokenPipeError, KeyboardInterrupt),
        asyncio.Runner(loop_factory=_loop()) as runner,
    ):
        runner.run(serve())
