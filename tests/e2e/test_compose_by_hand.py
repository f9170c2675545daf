"""An answer's `docker_compose` started by hand is the engine that the plan describes, in a container."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.vllm_orchestrator.hosts import SMOLLM, orchestrator
from tests.support.apps import serving
from tests.support.compose import compose_command, state_of
from tests.support.llama_image import llama_image
from tests.support.nats import NatsServer
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

NAME = "computetest-smol"


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A stand-in for the official image of llama.cpp: its server as entry point, and curl."""
    return llama_image(tmp_path)


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
