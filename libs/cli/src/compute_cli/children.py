"""Child processes of `compute up`: each its own session, recorded on disk, restarted when it dies."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from compute_cli import log_files

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 10.0
STEADY_SECONDS = 30.0
POLL_SECONDS = 0.05

Say = Callable[[str], None]


@dataclass
class Child:
    """One program of the suite. `run` keeps it alive until `stop`."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    record: Path
    say: Say
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0
    _stopping: bool = False
    _keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Start the process and the task that keeps it alive."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep_alive(), name=f"keep {self.name}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and whatever it forked; from now on it is not restarted."""
        self._stopping = True
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    async def wait(self) -> None:
        """Until the process has ended; cancels the keeper."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self.process is not None:
            await self.process.wait()
        self.record.unlink(missing_ok=True)

    def bound_log(self) -> None:
        """Keep what it writes from growing without end."""
        log_files.cut(self.log)

    async def _spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        log_files.set_aside(self.log)
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *self.argv,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        write_record(self.record, self.process.pid)

    async def _keep_alive(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            started = time.monotonic()
            code = await self.process.wait() if self.process is not None else 0
            if self._stopping:
                return
            if time.monotonic() - started > STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            self.restarts += 1
            self.say(
                f"{self.name} died ({_how(code)}); starting it again in {backoff:g} s, its log: {self.log}"
            )
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
            await self._spawn()


def write_record(path: Path, pid: int) -> None:
    """Note the pid with its start time, so that a later run can tell it from a stranger with the same pid."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(psutil.Error):
        path.write_text(json.dumps({"pid": pid, "start_time": psutil.Process(pid).create_time()}))


def recorded_process(path: Path) -> psutil.Process | None:
    """The living process a record names; None when it ended or the pid is somebody else's now."""
    try:
        record = json.loads(path.read_text())
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - float(record["start_time"])) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


async def end_groups(processes: Sequence[psutil.Process], patience_seconds: float) -> None:
    """SIGTERM to each process group, SIGKILL to what is left of it after `patience_seconds`."""
    for number, patience in ((signal.SIGTERM, patience_seconds), (signal.SIGKILL, 1.0)):
        for process in processes:  # a group may outlive its leader
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        for _turn in range(round(patience / POLL_SECONDS)):
            if not any(_alive(process) for process in processes):
                break
            await asyncio.sleep(POLL_SECONDS)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
