"""Programs under the guard end with everything they started, even when the runner is killed."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from benchmark_runner import programs
from tests.support.waiting import until

# A program with a child that heeds no SIGTERM; it tells the pids of both.
PROGRAM = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("pids.part", "w") as file: file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.part", "pids")
time.sleep(600)
"""
RUNNER = """
import asyncio, sys
from pathlib import Path
from benchmark_runner import programs
async def main():
    async with programs.running([sys.executable, "-c", sys.argv[1]], Path.cwd(), programs.environment()):
        await asyncio.sleep(600)
asyncio.run(main())
"""


async def pids(folder: Path) -> list[int]:
    await until((folder / "pids").exists)
    return [int(word) for word in (folder / "pids").read_text().split()]


async def test_a_killed_runner_leaves_no_program_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", RUNNER, PROGRAM]
    runner = await asyncio.create_subprocess_exec(*argv, cwd=tmp_path)
    found = await pids(tmp_path)
    guard = psutil.Process(found[0]).ppid()
    assert all(os.getsid(pid) == guard for pid in found), "the ledger knows them by the guard's session"
    runner.send_signal(signal.SIGKILL)
    await runner.wait()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in (*found, guard)))


async def test_the_end_of_the_block_is_the_end_of_all(tmp_path: Path) -> None:
    heeds = PROGRAM.replace("SIG_IGN", "SIG_DFL")
    async with programs.running([sys.executable, "-c", heeds], tmp_path, programs.environment()):
        found = await pids(tmp_path)
    assert not any(psutil.pid_exists(pid) for pid in found)


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137), ("print(1)", 0)],
)
async def test_its_exit_code_is_the_programs(tmp_path: Path, program: str, code: int) -> None:
    argv = [sys.executable, "-c", program]
    async with programs.running(argv, tmp_path, programs.environment()) as process:
        assert await process.wait() == code


async def test_a_program_that_is_not_there_is_a_failure_with_words(tmp_path: Path) -> None:
    async with programs.running(["/nowhere/program"], tmp_path, programs.environment()) as process:
        words = await programs.last_lines(process.stderr)
        assert await process.wait() == 1
    assert "/nowhere/program" in words[-1]
