"""How long `compute run` takes on a warm machine, and what the six services weigh.

Run by `make bench`; prints its figures and holds them against the targets.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from compute_cli.suite import SERVICES
from tests.support.suite import RunningSuite

ANSWER_SECONDS = 15
RSS_MB = 400


def test_a_warm_run_reaches_the_answer(tmp_path: Path) -> None:
    """Second `compute run` in the same home, from the command to the printed answer."""
    suite = RunningSuite(tmp_path / "home")
    seconds = [_seconds_to_answer(suite) for _ in range(4)][1:]
    print(f"\nwarm run to the answer: {min(seconds):.1f} / {sorted(seconds)[1]:.1f} / {max(seconds):.1f} s")
    assert sorted(seconds)[1] <= ANSWER_SECONDS


def test_resident_memory_of_the_six_services(tmp_path: Path) -> None:
    suite = RunningSuite(tmp_path / "home")
    suite.start()
    try:
        time.sleep(3)  # the pollers have run
        rss = {
            spec.name: psutil.Process(suite.pid_of(spec.name)).memory_info().rss >> 20 for spec in SERVICES
        }
    finally:
        suite.stop()
    print(f"\nRSS, MiB: {sum(rss.values())} in all, {rss}")
    assert sum(rss.values()) <= RSS_MB


def _seconds_to_answer(suite: RunningSuite) -> float:
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "compute_cli.main", "run", "--once"],
        env={**os.environ, **suite.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as run:
        assert run.stdout is not None
        answered = next((time.monotonic() for line in run.stdout if line.strip().startswith("answer")), None)
        for _line in run.stdout:
            pass
    assert answered is not None
    assert run.returncode == 0
    return answered - started
