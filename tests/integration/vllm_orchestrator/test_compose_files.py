"""The compose documents in plans are accepted by Compose itself."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.vllm_orchestrator.hosts import orchestrator
from tests.support.apps import serving
from tests.support.compose import compose_command
from tests.support.nats import NatsServer

H100 = {"name": "NVIDIA H100 80GB HBM3", "vram_mb": 81_559, "compute_capability": "9.0", "vendor": "nvidia"}
MI300X = {"name": "AMD Instinct MI300X", "vram_mb": 196_592, "compute_capability": "gfx942", "vendor": "amd"}

ADDRESSES = (("a", "10.0.0.1"), ("b", "10.0.0.2"))


def host(gpu: dict[str, Any], count: int) -> dict[str, Any]:
    gpus = [{**gpu, "index": index} for index in range(count)]
    return {"node_id": "what-if", "hostname": "what-if", "memory": {"total_gb": 512}, "gpus": gpus}


@pytest.mark.parametrize("gpu", [H100, MI300X], ids=["cuda", "rocm"])
async def test_compose_accepts_what_a_plan_prints(
    nats_server: NatsServer, tmp_path: Path, gpu: dict[str, Any]
) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("no docker compose here; `make test-deps` installs it")
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        body = {"model_name": "meta-llama/Llama-3-70B", "inventory": [host(gpu, 4)]}
        answer = (await client.post("/api/v1/vllm/plan", json=body)).json()
    assert answer["fits"] is True, answer["explanation"]
    _accepted(command, answer["plan"]["docker_compose"], tmp_path / "docker-compose.yml")


async def test_compose_accepts_parts_over_hosts_and_a_processor(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("no docker compose here; `make test-deps` installs it")
    hosts = [{**host(H100, 8), "node_id": name, "ipv4": address} for name, address in ADDRESSES]
    async with serving(orchestrator(nats_server, tmp_path)) as client:
        over_hosts = {"model_name": "deepseek-ai/DeepSeek-V3", "inventory": hosts}
        small = {"model_name": "HuggingFaceTB/SmolLM2-135M-Instruct", "inventory": [host(H100, 0)]}
        by_ray = {**over_hosts, "distributed_executor_backend": "ray"}
        name = "deepseek-ai/DeepSeek-V3"
        for body, word in ((over_hosts, name), (by_ray, f"exec vllm serve {name}"), (small, "--alias")):
            answer = (await client.post("/api/v1/vllm/plan", json=body)).json()
            assert answer["fits"] is True, answer["explanation"]
            document = answer["plan"]["docker_compose"]
            _accepted(command, document, tmp_path / "docker-compose.yml", word)
            if len(document["services"]) > 1:
                _accepted([*command, "--profile", "rank-1"], document, tmp_path / "docker-compose.yml", word)


def _accepted(
    command: list[str],
    document: dict[str, Any],
    file: Path,
    word: str = "meta-llama/Llama-3-70B",
) -> None:
    """Compose reads the file, and `word` is told to the first of its services."""
    file.write_text(yaml.safe_dump(document))
    checked = subprocess.run(
        [*command, "-f", str(file), "config"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    found = yaml.safe_load(checked.stdout)["services"]
    assert any(word in told for told in next(iter(found.values()))["command"])
