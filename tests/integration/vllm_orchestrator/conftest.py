"""No test of this folder leaves an engine behind, not even a failing one."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_cli.children import recorded_process


@pytest.fixture(autouse=True)
def _no_engine_stays(tmp_path: Path) -> Iterator[None]:
    yield
    for record in tmp_path.rglob("engines/*.json"):
        left = recorded_process(record)
        if left is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(left.pid, signal.SIGKILL)
