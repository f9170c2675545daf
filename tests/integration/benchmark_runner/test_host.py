"""With the host's real ledger: what the lab's engine takes, what cells tell of memory and power."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common.bus import Bus
from tests.integration.benchmark_runner.runners import RUN, first_cell, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.integration.benchmark_runner.test_lab import ASK as LAB_ASK
from tests.integration.benchmark_runner.test_lab import lab_settings
from tests.integration.benchmark_runner.test_targets_over_nats import put_instance
from tests.integration.gpu_orchestrator.processes import running
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.nvml import Gpu, Played, Scenario, scenarios
from tests.support.nvml.fixture import nvml_library
from tests.support.ports import free_port
from tests.support.waiting import until

__all__ = ["nvml_library"]
GIB = 1 << 30


@pytest.fixture
async def ledger(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[httpx.AsyncClient]:
    """A host without GPUs."""
    port = free_port()
    with running(tmp_path / "ledger", port, NATS_URL=nats_server.url, NATS_WAIT_SECONDS="5"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1/gpu") as client:
            yield client


async def promised(ledger: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await ledger.get("/reservations")).json()["reservations"]
    return found


async def test_the_labs_engine_has_its_memory_promised_while_it_runs(
    tmp_path: Path, nats_server: NatsServer, ledger: httpx.AsyncClient
) -> None:
    settings = lab_settings(tmp_path)
    with (tmp_path / "models" / "slow.gguf").open("wb") as file:
        file.truncate(1 * GIB)
    async with serving(runner(tmp_path, nats_server.url, **settings)) as client:
        run = (await client.post(RUN, json=LAB_ASK | {"model_path": "slow.gguf"})).json()
        await first_cell(client, run["benchmark_id"])
        (found,) = await promised(ledger)
        assert (found["owner"], found["gpu_indices"]) == (f"benchmark:{run['benchmark_id']}", [])
        assert found["reserved_mb"] == 256 + 1229
        assert (found["state"], found["expires_at"]) == ("bound", None)
        await client.delete(f"/api/v1/benchmark/{run['benchmark_id']}")

        async def none() -> bool:
            return not await promised(ledger)

        await until(none)
        with (tmp_path / "models" / "tiny.gguf").open("wb") as file:
            file.truncate(4096 * GIB)
        ask = LAB_ASK | {"model_path": "tiny.gguf", "background": False}
        refused = (await client.post(RUN, json=ask)).json()
        assert refused["status"] == "failed"
        assert "no room for the engine" in refused["error"]
        assert await none()


def mute(gpu: Gpu) -> Gpu:
    """The same card, whose driver does not tell its power."""
    return replace(gpu, values={key: value for key, value in gpu.values.items() if key != "power_mw"})


@pytest.mark.parametrize("tells_power", [True, False])
async def test_memory_and_power_of_the_instances_gpus_alone(
    tmp_path: Path, nats_server: NatsServer, bus: Bus, nvml_library: Path, tells_power: bool
) -> None:
    """Two unlike cards of 120.5 W, 600 MiB in use on each; the instance is on the second."""
    scenario = scenarios.unlike_pair()
    if not tells_power:
        scenario = Scenario(tuple(mute(gpu) for gpu in scenario.gpus))
    played = Played(nvml_library, scenario, tmp_path)
    port = free_port()
    more = {"NATS_URL": nats_server.url, "NATS_WAIT_SECONDS": "5", **played.environment}
    with running(tmp_path / "ledger", port, **more):
        async with (
            scripted(Script(ttft=0.1, gap=0.01)) as server,
            serving(runner(tmp_path, nats_server.url)) as client,
        ):
            await put_instance(bus, "tiny", server, gpu_indices=(1,))
            ask = {"model_name": "tiny", "context_lengths": [8], "output_tokens": 8, "background": False}
            for _turn in range(3):  # a machine with no time for anybody may end one early
                run = (await client.post(RUN, json=ask)).json()
                if run["cells"]:
                    break
            assert run["cells"], run
            (cell,) = run["cells"]
    used = cell["resources"]
    assert used["vram_used_mb"] == 600
    assert used["ram_used_mb"] > 0
    assert used["samples"] >= 1
    if tells_power:
        assert used["power_w"] == pytest.approx(120.5)
        assert used["tokens_per_joule"] == pytest.approx(cell["output_tokens_per_s"] / 120.5, rel=1e-3)
    else:
        assert (used["power_w"], used["tokens_per_joule"]) == (None, None)
