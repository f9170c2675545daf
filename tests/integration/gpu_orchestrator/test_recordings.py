"""The recorder runs on a played machine, and every recording there is reads as the wire's own records."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from compute_common.schemas.gpu import GpuStates, MemoryAnswer
from tests.support.nvml import Played, scenarios

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests/recorded"
LOOKS = 5


def assert_readable(recording: Path) -> list[GpuStates]:
    text = recording.read_text()
    read = json.loads(text)
    assert read["detected"]["gpus"]
    states = [GpuStates.model_validate(look["states"]) for look in read["looks"]]
    forecasts = [MemoryAnswer.model_validate(look["memory"]) for look in read["looks"]]
    for seen, forecast in zip(states, forecasts, strict=True):
        assert [gpu.index for gpu in forecast.gpus] == [gpu.index for gpu in seen.gpus]
        for gpu in seen.gpus:
            assert 0 <= gpu.available_mb <= gpu.total_mb - gpu.used_mb
            assert gpu.uuid == f"GPU-{gpu.index}"
    assert '"ipv4"' not in text
    assert f'"{socket.gethostname()}"' not in text
    return states


def test_a_played_machine_is_recorded_while_its_memory_grows(nvml_library: Path, tmp_path: Path) -> None:
    machine = scenarios.unlike_pair()
    played = Played(nvml_library, machine, tmp_path)
    options = ["--seconds", str(LOOKS * 0.5), "--every", "0.5", "--into", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.recorded.record", "played", *options],
        cwd=ROOT,
        env={**os.environ, **played.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # without CUDA the growing program fails: here the machine grows itself
        text=True,
    ) as recorder:
        assert recorder.stdout is not None
        for line in recorder.stdout:
            if line.startswith("look"):
                used = 600 + 1_000 * int(line.split()[1])
                played.change(scenarios.resized(machine, 0, 24_564, used_mib=used))
    assert recorder.returncode == 0
    states = assert_readable(tmp_path / "played.json")
    growth = [seen.gpus[0].used_mb for seen in states]
    assert len(growth) == LOOKS
    assert growth == sorted(growth)
    assert len(set(growth)) > 2, "it grew"


def test_every_recording_reads() -> None:
    for recording in RECORDED.glob("*.json"):
        assert_readable(recording)
