"""Reads what GPUs and drivers there are, without pynvml: NVML itself by ctypes; one that hangs is left."""

import ctypes
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from compute_common.checkup.facts import Gpu, Reach
from compute_common.nvml import ELSEWHERE, SONAME

PATIENCE_SECONDS = 5.0
NOT_LOADED = 9
_MEANING = {4: "no permission", 12: "library not found", 18: "driver and library version mismatch"}
_DISPLAY = "0x03"  # PCI class of display controllers
_VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
_MODULE_VERSION = re.compile(r"\s(\d+\.\d+(?:\.\d+)?)\s")
_VERSION_LENGTH = 80


@dataclass
class _Nvml:
    reach: Reach = Reach.SILENT
    error: str = ""
    version: str | None = None


def read_gpu(proc: Path = Path("/proc"), sys: Path = Path("/sys"), dev: Path = Path("/dev")) -> Gpu:
    """What there is; never waits longer than PATIENCE_SECONDS."""
    cards = _cards(sys)
    nvml = _patiently()
    return Gpu(
        nvidia_cards=cards.count("nvidia"),
        amd_cards=cards.count("amd"),
        nvml=nvml.reach,
        nvml_error=nvml.error,
        driver_version=nvml.version,
        kernel_version=_kernel_version(proc / "driver/nvidia/version"),
        kfd=_kfd(dev / "kfd"),
    )


def _cards(sys: Path) -> list[str]:
    found = []
    for device in sorted(sys.glob("bus/pci/devices/*")):
        try:
            kind = (device / "class").read_text().strip()
            vendor = _VENDORS.get((device / "vendor").read_text().strip())
        except OSError:
            continue
        if vendor and kind.startswith(_DISPLAY):
            found.append(vendor)
    return found


def _kernel_version(path: Path) -> str | None:
    try:
        found = _MODULE_VERSION.search(path.read_text(errors="replace")[:4096])
    except OSError:
        return None
    return found.group(1) if found else None


def _kfd(path: Path) -> Reach:
    if not path.exists():
        return Reach.ABSENT
    return Reach.ANSWERS if os.access(path, os.R_OK | os.W_OK) else Reach.DENIED


def _patiently() -> _Nvml:
    """Asks in a thread of its own: a driver that hangs keeps that one, and nobody else."""
    answered: list[_Nvml] = []
    asking = threading.Thread(target=lambda: answered.append(_ask()), name="checkup-nvml", daemon=True)
    asking.start()
    asking.join(PATIENCE_SECONDS)
    return answered[0] if answered else _Nvml()


def _ask() -> _Nvml:
    library = _library()
    if library is None:
        return _Nvml(Reach.ABSENT)
    try:
        code = int(library.nvmlInit_v2())
        if code == NOT_LOADED:
            return _Nvml(Reach.ABSENT)
        if code:
            return _Nvml(Reach.DENIED, _MEANING.get(code, f"error {code}"))
        return _Nvml(Reach.ANSWERS, version=_driver_version(library))
    except AttributeError:  # not NVML, or older than any card that engines run on
        return _Nvml(Reach.DENIED, "the library has no nvmlInit_v2")


def _driver_version(library: ctypes.CDLL) -> str | None:
    text = ctypes.create_string_buffer(_VERSION_LENGTH)
    try:
        code = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(_VERSION_LENGTH))
    finally:
        library.nvmlShutdown()
    return None if code else text.value.decode(errors="replace")


def _library() -> ctypes.CDLL | None:
    for name in (SONAME, *ELSEWHERE):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
