"""A real memory control group, where this test may make one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cgroup import NoGroupError, memory_group

LIMIT_MB = 700


@pytest.fixture
def group() -> Iterator[Path]:
    """An empty group with a limit; skipped without root, without a hierarchy, or where it is read-only."""
    try:
        with memory_group(LIMIT_MB) as made:
            yield made.folder
    except NoGroupError as error:
        pytest.skip(str(error))


def test_a_process_in_a_real_group_sees_its_limit(group: Path) -> None:
    code = (
        "import os, pathlib, runpy\n"
        f"pathlib.Path({str(group / 'cgroup.procs')!r}).write_text(str(os.getpid()))\n"
        "held = bytearray(200 << 20)\n"
        "held[::4096] = b'x' * len(held[::4096])\n"
        "runpy.run_module('resource_detector', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["memory"]["total_mb"] == LIMIT_MB
    assert found["memory"]["available_mb"] <= LIMIT_MB - 200
    assert found["host"]["memory_mb"] > LIMIT_MB
    assert found["sources"]["memory.total_mb"].startswith(f"/sys/fs/cgroup/{group.name}") or (
        found["sources"]["memory.total_mb"].startswith(f"/sys/fs/cgroup/memory/{group.name}")
    )
