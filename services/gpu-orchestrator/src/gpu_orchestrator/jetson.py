"""A Jetson board whose NVML is absent: known by its release file or its device tree."""

from pathlib import Path

from gpu_orchestrator.devices import GpuReading


def read_board(root: Path = Path("/")) -> GpuReading | None:
    """The board's GPU, which has no memory but the machine's; None where this is no Jetson."""
    model = _text(root / "proc/device-tree/model")
    if not (root / "etc/nv_tegra_release").exists() and "jetson" not in model.lower():
        return None
    name = f"{model or 'Tegra'} (nvgpu)"
    return GpuReading(0, "jetson-0", name, 0, 0, processes_readable=False, unified=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip(" \0\n")
    except OSError:
        return ""
