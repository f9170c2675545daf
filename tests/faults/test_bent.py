"""The clock and the disk that chaos bends are bent for a real program, and straight again when told."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.bent import Bent

PROGRAM = """
import datetime, os, sys, tempfile, time
file = tempfile.TemporaryFile()
for line in sys.stdin:
    began = time.monotonic()
    os.fsync(file.fileno())
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic() - began, flush=True)
"""


@pytest.fixture
def bent(tmp_path: Path) -> Bent:
    found = Bent(tmp_path)
    if not found.usable:
        pytest.skip("no C compiler: apt-get install gcc to bend clocks")
    return found


def test_a_program_is_bent_while_it_runs(bent: Bent) -> None:
    environment = os.environ | bent.environment("host 1")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def told() -> tuple[float, float, float]:
            """How far its two clocks are from ours, and how long an fsync took."""
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write("\n")
            program.stdin.flush()
            clock, date, sync = map(float, program.stdout.readline().split())
            return clock - time.time(), date - time.time(), sync

        assert all(abs(off) < 5 for off in told()[:2])
        bent.bend("host 1", shift_seconds=-100, sync_seconds=0.3)
        clock, date, sync = told()
        assert -106 < clock < -94
        assert -106 < date < -94
        assert sync >= 0.3
        bent.bend("host 1")
        assert all(abs(off) < 5 for off in told()[:2])
        program.stdin.close()
