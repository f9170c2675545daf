"""NVIDIA's management library (NVML): where it is, and which parts share the system's memory.

pynvml itself is not imported here: it costs memory, and only two services need it.
"""

import ctypes
import re
import sys

GPU_IS_LOST = 15
SONAME = "libnvidia-ml.so.1"
# Where it is when the loader does not look there; once loaded, pynvml's own load finds it by its name.
ELSEWHERE = ("/usr/lib/wsl/lib/libnvidia-ml.so.1", "/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1")
# Integrated parts on the system's RAM, by the name NVML gives; never guessed from a missing memory size.
_INTEGRATED = re.compile(r"\b(GB10|Orin|Xavier|Thor|Tegra)\b|nvgpu", re.IGNORECASE)


class GpuLostError(Exception):
    """The GPU fell off the bus: every further call on it fails too."""


def library_present() -> bool:
    """Whether NVML can be loaded; asked before pynvml is imported."""
    if sys.platform != "linux":
        return sys.platform == "win32"
    return any(_loads(name) for name in (SONAME, *ELSEWHERE))


def is_integrated(name: str) -> bool:
    """Whether a GPU of that name has no memory but the system's (Jetson, GB10; not GH200, with its HBM)."""
    return bool(_INTEGRATED.search(name))


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True
