"""A driver that is not there, and a Jetson board that has none."""

from pathlib import Path

import pytest

from gpu_orchestrator import nvml
from gpu_orchestrator.jetson import read_board
from gpu_orchestrator.nvml import RETRY_SECONDS, Nvml


def test_a_host_without_the_library_is_asked_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, RETRY_SECONDS - 1, RETRY_SECONDS, RETRY_SECONDS + 1])
    asked = 0

    def present() -> bool:
        nonlocal asked
        asked += 1
        return False

    monkeypatch.setattr(nvml, "library_present", present)
    library = Nvml(clock=lambda: next(times), board=lambda: None)
    counts = [(library.read(), asked)[1] for _ in range(5)]
    assert counts == [1, 1, 1, 2, 2]
    assert library.detail is None, "no GPU is no fault"


def test_a_jetson_without_nvml_has_its_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nvml, "library_present", lambda: False)
    assert read_board(tmp_path) is None
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
    library = Nvml(board=lambda: read_board(tmp_path))
    for _ in range(2):
        (gpu,) = library.read()
        assert (gpu.index, gpu.unified, gpu.health, gpu.processes_readable) == (0, True, "ok", False)
        assert gpu.name == "NVIDIA Jetson AGX Orin Developer Kit (nvgpu)"
