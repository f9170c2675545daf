"""`docker compose --profile compute up -d`, and what its containers live through: kill, stop, down, up."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from compute_cli.suite import SERVICES
from tests.support.compose import Compose, state_of
from tests.support.docker_proxy import docker
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = [spec.name for spec in SERVICES]
CONTAINERS = [*NAMES, "nats", "compute-node"]
MODEL = "smollm2"
HEALTHY_SECONDS = 60
STOP_SECONDS = 5
OVER_THE_BASE_MB = 250


@pytest.fixture(scope="module")
def started() -> list[float]:
    """When `up -d` was called."""
    return []


@pytest.fixture(scope="module")
def compose(project: Compose, started: list[float]) -> Iterator[Compose]:
    project("down", "-v", "--remove-orphans")
    started.append(time.monotonic())
    project("up", "-d")
    yield project
    project("down", "-v", "--remove-orphans")


def test_all_become_healthy_in_time(compose: Compose, started: list[float]) -> None:
    for name in CONTAINERS:
        wait_for(lambda name=name: state_of(name) == "healthy", HEALTHY_SECONDS)
    took = time.monotonic() - started[0]
    print(f"up -d to all healthy: {took:.1f} s")
    assert took < HEALTHY_SECONDS
    for name in NAMES:
        assert wait_for(lambda name=name: compose.health(name), 30)["service"] == name


def test_images_are_small_and_hold_no_compiler(compose: Compose) -> None:
    base = _megabytes("python:3.11-slim-bookworm")
    for name in [*NAMES, "compute-node"]:
        added = _megabytes(compose_image(name)) - base
        print(f"{name}: {added:.0f} MB over the base")
        assert added <= OVER_THE_BASE_MB
    tools = "gcc g++ cc c++ clang ld as make cmake go rustc"
    found = docker("exec", "vllm-orchestrator", "sh", "-c", f"for t in {tools}; do command -v $t; done; true")
    assert found == ""


def test_containers_run_as_a_user_on_a_read_only_root(compose: Compose) -> None:
    assert compose.files
    for name in [*NAMES, "compute-node"]:
        assert docker("exec", name, "id", "-u") == "10001"
        tried = docker("exec", name, "sh", "-c", "touch /opt/compute/x /models/x /x 2>&1 || true")
        assert tried.count("Read-only file system") == 3, tried


def test_the_host_is_one_node(compose: Compose) -> None:
    wait_for(lambda: _node(compose)["work_types"])


def test_a_work_item_goes_round_the_containers(compose: Compose) -> None:
    plan = {"model_name": MODEL, "model_path": f"/models/{MODEL}"}
    assert compose.request("POST", "vllm-orchestrator", "/api/v1/vllm/deploy", plan).status_code == 202
    wait_for(lambda: compose.instance_ready(MODEL), 90)
    item = _ask(compose, "w-round")
    assert (item["status"], item["assigned_node"]) == ("completed", _node(compose)["node_id"]), item
    assert item["result"]["text"]


def test_every_container_is_killed_and_knows_what_it_knew(compose: Compose) -> None:
    node_id = _node(compose)["node_id"]
    held = {"gpu_indices": [], "required_mb": 64, "timeout_seconds": 3600}
    reservation = compose.post("gpu-orchestrator", "/api/v1/gpu/reserve", held)["reservation_id"]
    for name in CONTAINERS:
        docker("kill", name)
        docker("start", name)
        if name in NAMES:
            wait_for(lambda name=name: compose.health(name), 60)
    for name in NAMES:
        wait_for(lambda name=name: compose.health(name), 60)
    assert _node(compose)["node_id"] == node_id
    path = f"/api/v1/gpu/reservations/{reservation}"
    assert compose.request("DELETE", "gpu-orchestrator", path).status_code == 204
    assert compose.get("work-marshaling", "/api/v1/work/w-round")["status"] == "completed"
    wait_for(lambda: compose.instance_ready(MODEL), 90)
    assert _ask(compose, "w-after-kill")["status"] == "completed"


def test_a_program_that_ends_is_started_again(compose: Compose) -> None:
    docker("exec", "work-marshaling", "sh", "-c", "kill -TERM 1")
    wait_for(lambda: int(docker("inspect", "-f", "{{.RestartCount}}", "work-marshaling")) > 0, 30)
    wait_for(lambda: compose.health("work-marshaling"), 30)


def test_every_container_ends_in_time_when_asked(compose: Compose) -> None:
    wait_for(lambda: compose.instance_ready(MODEL), 90)
    for name in ["compute-node", *NAMES, "nats"]:
        began = time.monotonic()
        docker("stop", "-t", "20", name)
        took = time.monotonic() - began
        print(f"SIGTERM to the end of {name}: {took:.1f} s")
        assert took <= STOP_SECONDS, (name, took)
        assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "0", name
    compose("up", "-d")


def test_up_down_up_is_one_node_with_what_it_had(compose: Compose) -> None:
    wait_for(lambda: compose.health("node-registry"), 60)
    node_id = _node(compose)["node_id"]
    compose("down")
    assert (compose.left("container"), compose.left("network")) == ("", "")
    assert compose.left("volume")
    compose("up", "-d")
    for name in NAMES:
        wait_for(lambda name=name: compose.health(name), HEALTHY_SECONDS)
    assert _node(compose)["node_id"] == node_id
    assert compose.get("work-marshaling", "/api/v1/work/w-after-kill")["status"] == "completed"
    wait_for(lambda: compose.instance_ready(MODEL), 90)


def test_down_leaves_nothing(compose: Compose) -> None:
    compose("down", "-v", "--remove-orphans")
    assert [compose.left(kind) for kind in ("container", "network", "volume")] == ["", "", ""]


def compose_image(name: str) -> str:
    return f"compute/{name}:0.1.0"


def _megabytes(image: str) -> float:
    return int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6


def _node(compose: Compose) -> Any:
    """The one node there is, once it is online."""

    def look() -> Any:
        nodes = compose.get("node-registry", "/api/v1/nodes")["nodes"]
        assert len(nodes) <= 1, nodes
        return nodes[0] if nodes and nodes[0]["status"] in ("online", "busy") else None

    return wait_for(look, 30)


def _ask(compose: Compose, work_id: str) -> Any:
    body = {
        "work_id": work_id,
        "work_type": "inference",
        "model_name": MODEL,
        "payload": {"prompt": "Hello", "max_tokens": 8},
    }
    compose.post("work-marshaling", "/api/v1/work/submit", body)
    return wait_for(lambda: _final(compose.get("work-marshaling", f"/api/v1/work/{work_id}?wait=30")), 60)


def _final(item: Any) -> Any:
    return item if item["status"] in ("completed", "failed", "cancelled") else None
