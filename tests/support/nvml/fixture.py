"""The compiled library, once a test session; import `nvml_library` in a conftest to use it."""

from pathlib import Path

import pytest

from tests.support.nvml import build, compiler


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if compiler() is None:
        pytest.skip("no C compiler: apt-get install gcc to play NVML scenarios")
    return build(tmp_path_factory.mktemp("nvml"))
