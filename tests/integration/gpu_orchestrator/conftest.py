"""The compiled NVML library."""

from tests.support.nvml.fixture import nvml_library

__all__ = ["nvml_library"]
