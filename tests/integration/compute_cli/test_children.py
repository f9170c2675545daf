"""Real child processes: restarted when they die, ended with their group."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from compute_cli import log_files
from compute_cli.children import Child, end_groups, recorded_process, write_record
from tests.support.waiting import until

FORK = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
SLEEPER = f"import subprocess, sys, time; {FORK}; time.sleep(60)"


def child(tmp_path: Path, said: list[str]) -> Child:
    return Child(
        name="sleeper",
        argv=[sys.executable, "-c", SLEEPER],
        environment=dict(os.environ),
        log=tmp_path / "sleeper.log",
        record=tmp_path / "sleeper.json",
        say=said.append,
    )


async def test_a_dead_child_is_started_again_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    sleeper = child(tmp_path, said)
    await sleeper.start()
    assert sleeper.process is not None
    first = sleeper.process.pid
    os.killpg(first, signal.SIGKILL)
    await until(lambda: sleeper.process is not None and sleeper.process.pid != first)
    assert said[0].startswith("sleeper died (signal SIGKILL); starting it again in 0.5 s")
    sleeper.signal(signal.SIGKILL)
    await sleeper.wait()
    assert not sleeper.record.exists()


async def test_a_record_tells_a_process_from_a_stranger(tmp_path: Path) -> None:
    record = tmp_path / "me.json"
    write_record(record, os.getpid())
    found = recorded_process(record)
    assert found is not None
    assert found.pid == os.getpid()
    record.write_text(f'{{"pid": {os.getpid()}, "start_time": 1.0}}')
    assert recorded_process(record) is None
    record.write_text("{")
    assert recorded_process(record) is None


@pytest.mark.parametrize("stubborn", [False, True])
async def test_groups_end_with_what_they_forked(tmp_path: Path, stubborn: bool) -> None:
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}" if stubborn else SLEEPER
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, start_new_session=True)
    parent = psutil.Process(process.pid)
    await until(lambda: len(parent.children()) == 1)
    fork = parent.children()[0]
    reaper = asyncio.create_task(process.wait())
    await end_groups([parent], 0.5)
    await asyncio.wait_for(reaper, 5)
    await until(lambda: not fork.is_running() or fork.status() == psutil.STATUS_ZOMBIE)


SAY = "print('more', flush=True); time.sleep(0.001)"


async def test_the_log_of_a_program_that_runs_on_is_cut(tmp_path: Path) -> None:
    """It appends: nothing is lost that it says afterwards, and what it said last is kept beside."""
    log = tmp_path / "loud.log"
    log.write_text("old\n" * (log_files.MAX_LOG_BYTES // 4))
    talks = f"import time; print('one', flush=True); time.sleep(0.1)\nwhile True: {SAY}"
    loud = child(tmp_path, [])
    loud.argv, loud.log = [sys.executable, "-c", talks], log
    await loud.start()
    await until(lambda: log.stat().st_size > log_files.MAX_LOG_BYTES + 1000)
    loud.bound_log()
    assert log.stat().st_size < 1 << 20
    assert "more" in (tmp_path / "loud.log.1").read_text()
    await until(lambda: log.read_text().startswith("more\n"))
    before = log.stat().st_size
    await until(lambda: log.stat().st_size > before)
    loud.bound_log()  # small: left alone
    assert log.stat().st_size >= before
    loud.signal(signal.SIGKILL)
    await loud.wait()
