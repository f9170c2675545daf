"""Other people's programs: run in a folder, followed, ended with everything they started."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

END_SECONDS = 12.0  # the guard's two waits, and some
KEPT_LINES = 20
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")  # and no secret of the service


@asynccontextmanager
async def running(
    argv: list[str], folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program under its guard while the block runs; afterwards its whole process group has ended.

    The guard's session is the program's, so its pid stands for all of them in the ledger. OSError when
    the guard cannot be started; a program that cannot be is the guard's failure.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmark_runner.guard", *argv),
        cwd=folder,
        env=dict(environment),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        await asyncio.shield(_end(process))


async def _end(process: asyncio.subprocess.Process) -> None:
    """The end of its standard input tells the guard; one that does not heed it is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def environment() -> dict[str, str]:
    """What a program gets of ours."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


async def last_lines(stream: asyncio.StreamReader | None, without: str = "progress ") -> list[str]:
    """The last lines said until the stream ends, without those that begin with `without`."""
    lines: list[str] = []
    while stream is not None:
        try:
            line = await stream.readline()
        except ValueError:  # a line without end
            continue
        if not line:
            break
        text = line.decode(errors="replace").strip()[:500]
        if text and not text.startswith(without):
            lines = [*lines, text][-KEPT_LINES:]
    return lines
