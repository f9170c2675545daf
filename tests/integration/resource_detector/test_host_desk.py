"""A host's check-up and its programs' logs, asked for over real NATS and over HTTP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.checkup import Checkup, ProgramLog
from tests.integration.resource_detector.test_detector import detector
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.nvml import Played
from tests.support.nvml.scenarios import h100_x8, mismatch, no_driver, no_permission

SECRET = "hf_" + "Secret" * 6


async def test_both_over_nats(
    nats_server: NatsServer, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "host"
    (home / "logs").mkdir(parents=True)
    (home / "models").mkdir()
    (home / "nats-compute.secret").write_text(SECRET)
    (home / "nats-compute.secret").chmod(0o644)
    (home / "logs" / "nats.log").write_text(f"one\ntwo with {SECRET}\n")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.delenv("VLLM_MODEL_PATH", raising=False)
    async with serving(detector(nats_server.url, COMPUTE_HOME=str(home))) as client:
        raw = await bus.request(subjects.host_subject("checkup", "box.1"), {}, 20)
        found = Checkup.model_validate(raw)
        told = {each.check: each for each in found.findings}
        assert found.node_id == "box.1"
        assert found.worst == "bad"
        assert told[f"secret {home}/nats-compute.secret"].fix == f"chmod 600 {home}/nats-compute.secret"
        assert told["nats"].level == "ok"
        assert told["HF_TOKEN"].level == "ok"
        assert told["models"].level == "warn"
        assert SECRET not in str(raw)
        over_http = await client.get("/api/v1/checkup")
        assert over_http.status_code == 200
        assert {each["check"] for each in over_http.json()["findings"]} == set(told)

        subject = subjects.host_subject("log", "box.1")
        log = ProgramLog.model_validate(await bus.request(subject, {"program": "nats", "lines": 1}))
        assert log.lines == ["two with ***"]
        ask = {"program": "nats", "offset": log.next_offset}
        assert (await bus.request(subject, ask))["lines"] == []
        for hostile in (
            {},
            {"program": "../api-keys"},
            {"program": "/etc/passwd"},
            {"program": ["nats"]},
            {"program": "nats", "lines": 10**9},
            {"program": "nats", "offset": -1},
            {"program": "other"},
        ):
            with pytest.raises(Problem) as refused:
                await bus.request(subject, hostile)
            assert refused.value.status in (404, 422)
        assert (await bus.request(subject, {"program": "nats", "lines": 2}))["lines"][0] == "one"


_LOOK = """
from compute_common.checkup.gpu_reader import read_gpu
gpu = read_gpu()
print(gpu.nvml, gpu.driver_version, gpu.nvml_error)
"""


@pytest.mark.parametrize(
    ("scenario", "seen"),
    [
        (h100_x8(), f"answers {h100_x8().driver} "),
        (mismatch(), "denied None driver and library version mismatch"),
        (no_permission(), "denied None no permission"),
        (no_driver(), "absent None "),
    ],
)
def test_drivers_through_a_real_library(
    nvml_library: Path, tmp_path: Path, scenario: object, seen: str
) -> None:
    played = Played(nvml_library, scenario, tmp_path)  # type: ignore[arg-type]
    looked = subprocess.run(
        [sys.executable, "-c", _LOOK],
        env={**os.environ, **played.environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert looked.stdout.rstrip("\n") == seen
