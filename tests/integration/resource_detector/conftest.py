"""The compiled NVML library, and the detector on a machine that it plays."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.resource_detector.played_host import Detect, detected
from tests.support.nvml import Scenario
from tests.support.nvml.fixture import nvml_library

__all__ = ["nvml_library"]


@pytest.fixture
def detect(nvml_library: Path, tmp_path: Path) -> Detect:
    """`detect(scenario, files)`: what the detector says there, the host's files changed by `files`."""

    def run(scenario: Scenario, files: dict[str, str] | None = None) -> dict[str, Any]:
        return detected(nvml_library, scenario, tmp_path, files)

    return run
