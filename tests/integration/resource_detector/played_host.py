"""The real detector and the real nvidia-ml-py against a compiled NVML that plays a machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.nvml import Played, Scenario
from tests.unit.resource_detector.trees import host_tree, write

Detect = Callable[..., dict[str, Any]]
RAM_MB = 122_000


def detected(
    library: Path, scenario: Scenario, folder: Path, files: dict[str, str] | None = None
) -> dict[str, Any]:
    """What `python -m resource_detector` says in a process of its own, on a plain host of RAM_MB."""
    root = folder / "root"
    host_tree(root, memory_mb=RAM_MB)
    write(root, files or {})
    played = Played(library, scenario, folder)
    done = subprocess.run(
        [sys.executable, "-m", "resource_detector", str(root)],
        env={**os.environ, **played.environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
