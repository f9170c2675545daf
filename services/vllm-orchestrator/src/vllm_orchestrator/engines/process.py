"""An engine as a process group of this host, in a session of its own, known by pid and start time."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TIME_TOLERANCE_SECONDS = 1.0
POLL_SECONDS = 0.05
ORPHAN_SECONDS = 2.0  # for workers whose leader has gone
KILLED_SECONDS = 10.0
OURS_ALONE = ("COMPUTE_", "NATS_", "SUPABASE_", "TENSORZERO_")  # no engine needs these, some are secrets


@dataclass(frozen=True)
class EngineProcess:
    """The leader of the group; a pid alone may mean another process tomorrow."""

    pid: int
    start_time: float


def spawn(argv: Sequence[str], environment: Mapping[str, str], log: Path) -> EngineProcess:
    """Start `argv` in its own session, output to `log`. It outlives us. OSError when it cannot start."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(environment),
            start_new_session=True,
        )
    process.returncode = 0  # it is reaped by `alive`, whoever its parent is by then
    try:
        started = psutil.Process(process.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    return EngineProcess(process.pid, started)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    shared = {name: value for name, value in os.environ.items() if not name.startswith(OURS_ALONE)}
    return {**shared, **own}


def alive(engine: EngineProcess) -> bool:
    """Whether the leader still runs; a dead child of ours is reaped on the way."""
    with suppress(ChildProcessError):  # adopted: another process's child
        if os.waitpid(engine.pid, os.WNOHANG)[0] == engine.pid:
            return False
    try:
        process = psutil.Process(engine.pid)
        same = abs(process.create_time() - engine.start_time) <= START_TIME_TOLERANCE_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def resident_bytes(engine: EngineProcess) -> int:
    """Resident memory of the leader; 0 once it is gone."""
    try:
        return int(psutil.Process(engine.pid).memory_info().rss)
    except psutil.Error:
        return 0


async def end(engine: EngineProcess, limit_seconds: float) -> None:
    """SIGTERM, SIGKILL to the whole group after `limit_seconds`; returns when no member is left.

    The leader is told first and alone: it finishes what is under way with its workers, which a signal of
    their own would end at once.
    """
    if not await asyncio.to_thread(_group_left, engine):
        return
    if alive(engine):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(engine.pid, signal.SIGTERM)
        await _gone(limit_seconds, lambda: alive(engine))
    _signal_group(engine, signal.SIGTERM)
    if await _gone(min(limit_seconds, ORPHAN_SECONDS), lambda: _group_left(engine)):
        return
    _signal_group(engine, signal.SIGKILL)
    await _gone(KILLED_SECONDS, lambda: _group_left(engine))


async def _gone(limit_seconds: float, left: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + limit_seconds
    while await asyncio.to_thread(left):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _group_left(engine: EngineProcess) -> bool:
    """Whether any member lives. While one does, the kernel gives its group's number to nobody else."""
    if alive(engine):
        return True
    if psutil.pid_exists(engine.pid) and not _zombie(engine.pid):
        return False  # the pid means another process now, so the group is gone
    return bool(group_members(engine.pid))


def group_members(group: int) -> list[int]:
    """The living pids of a process group."""
    return [pid for pid in psutil.pids() if _in_group(pid, group)]


def _in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group and not _zombie(pid)
    except ProcessLookupError:
        return False


def _zombie(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _signal_group(engine: EngineProcess, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(engine.pid, number)
