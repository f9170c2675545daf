"""`docker compose --profile compute up -d`: all healthy, and a submitted item goes round."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_cli.suite import SERVICES
from tests.support.compose import Compose, require_docker, state_of
from tests.support.docker_proxy import docker
from tests.support.llama_image import llama_image
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

CONTAINERS = [*(spec.name for spec in SERVICES), "nats", "compute-node"]
HEALTHY_SECONDS = 60


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Iterator[Compose]:
    require_docker()
    models = tmp_path_factory.mktemp("models")
    models.chmod(0o755)
    (models / "smollm2").mkdir()
    shutil.copy(model_file, models / "smollm2")
    project = Compose(models)
    project("build")
    try:
        project("up", "-d")
        yield project
    finally:
        project("down", "-v", "--remove-orphans")
        assert (
            docker("ps", "-aq", "--filter", "label=compute.engine=1", "--filter", "network=compute-engines")
            == ""
        )


def test_all_become_healthy_in_time(compose: Compose) -> None:
    started = time.monotonic()
    assert compose.ports
    for name in CONTAINERS:
        wait_for(lambda name=name: state_of(name) in ("healthy", "running"), HEALTHY_SECONDS)
    assert time.monotonic() - started < HEALTHY_SECONDS
    for spec in SERVICES:
        health = wait_for(lambda name=spec.name: _health(compose, name), 30)
        assert health["service"] == spec.name
        assert health["status"] == "healthy", health


def test_the_host_is_one_node(compose: Compose) -> None:
    nodes = wait_for(lambda: _get(compose, "node-registry", "/api/v1/nodes")["nodes"])
    assert len(nodes) == 1
    wait_for(lambda: _get(compose, "node-registry", "/api/v1/nodes")["nodes"][0]["work_types"])


def test_a_model_is_deployed_and_an_item_goes_round(compose: Compose) -> None:
    plan = httpx.post(
        compose.url("vllm-orchestrator") + "/api/v1/vllm/deploy",
        json={"model_name": "smollm2", "model_path": "/models/smollm2"},
        timeout=60,
    )
    assert plan.status_code == 202, plan.text
    name = plan.json()["instance_name"]

    def ready() -> bool:
        instance = _get(compose, "vllm-orchestrator", f"/api/v1/vllm/instances/{name}")
        assert instance["status"] != "failed", instance["last_error"]
        return bool(instance["status"] == "ready")

    wait_for(ready, 90)
    submitted = httpx.post(
        compose.url("work-marshaling") + "/api/v1/work/submit",
        json={"work_type": "inference", "model_name": name, "payload": {"prompt": "Hello", "max_tokens": 8}},
        timeout=60,
    ).json()
    item = _get(compose, "work-marshaling", f"/api/v1/work/{submitted['work_id']}?wait=30")
    assert item["status"] == "completed", item
    assert item["result"]["text"]


def test_engines_in_containers_of_their_own(compose: Compose, tmp_path: Path) -> None:
    """The overlay: the orchestrator reaches Docker through the proxy alone, its engines have a network."""
    compose.files.append("deploy/compose.docker-runtime.yml")
    compose.environment["LLAMA_DOCKER_IMAGE"] = llama_image(tmp_path)
    compose("build", "docker-proxy")
    compose("up", "-d")
    wait_for(lambda: _health(compose, "vllm-orchestrator"), 60)
    assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", "docker-proxy") == "none"
    instances = compose.url("vllm-orchestrator") + "/api/v1/vllm/instances"
    ask = {"model_name": "smollm2", "model_path": "/models/smollm2", "instance_name": "apart"}
    plan = httpx.post(compose.url("vllm-orchestrator") + "/api/v1/vllm/deploy", json=ask, timeout=60)
    assert plan.status_code == 202, plan.text

    def ready() -> bool:
        instance = httpx.get(f"{instances}/apart", timeout=60).json()
        assert instance["status"] != "failed", instance["last_error"]
        return bool(instance["status"] == "ready")

    wait_for(ready, 90)
    [container] = docker("ps", "-q", "--filter", "label=compute.instance=apart").split()
    assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}} {{.HostConfig.PortBindings}}", container) == (
        "compute-engines map[]"
    )
    body = {"model": "apart", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    answer = httpx.post(compose.url("vllm-orchestrator") + "/v1/completions", json=body, timeout=60)
    assert "Paris" in answer.json()["choices"][0]["text"]
    submitted = httpx.post(
        compose.url("work-marshaling") + "/api/v1/work/submit",
        json={
            "work_type": "inference",
            "model_name": "apart",
            "payload": {"prompt": "Hello", "max_tokens": 8},
        },
        timeout=60,
    ).json()
    item = _get(compose, "work-marshaling", f"/api/v1/work/{submitted['work_id']}?wait=30")
    assert item["status"] == "completed", item
    assert httpx.delete(f"{instances}/apart", timeout=60).status_code == 200
    assert docker("ps", "-aq", "--filter", "label=compute.instance=apart") == ""


def _get(compose: Compose, service: str, path: str) -> Any:
    answer = httpx.get(compose.url(service) + path, timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def _health(compose: Compose, service: str) -> Any:
    try:
        health = httpx.get(compose.url(service) + "/healthz", timeout=10).json()
    except httpx.HTTPError:
        return None
    return health if health["status"] == "healthy" else None
