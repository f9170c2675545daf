"""A real memory control group, where this test may make one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

LIMIT_MB = 700
VERSION_1 = Path("/sys/fs/cgroup/memory")
VERSION_2 = Path("/sys/fs/cgroup")


@pytest.fixture
def group() -> Iterator[Path]:
    """An empty group with a limit; skipped without root, without a hierarchy, or where it is read-only."""
    parent, limit = (VERSION_1, "memory.limit_in_bytes") if VERSION_1.is_dir() else (VERSION_2, "memory.max")
    folder = parent / f"compute-test-{uuid4().hex[:8]}"
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("needs root to make a memory control group")
    try:
        folder.mkdir()
        (folder / limit).write_text(str(LIMIT_MB << 20))
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        pytest.skip(f"no memory control group can be made here: {error.strerror}")
    yield folder
    folder.rmdir()


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
