"""The containers used from outside: the specification's commands, nodes beside Compose, engines apart."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_cli.suite import SERVICES
from tests.support import specification
from tests.support.compose import ROOT, Compose, bridge_address, state_of
from tests.support.docker_proxy import docker
from tests.support.llama_image import llama_image
from tests.support.ports import all_free
from tests.support.specification import Request
from tests.support.suite import PORTS, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]

OUTSIDE = "computetest-outside"
WORKER = ROOT / "examples" / "worker.py"
# The registration sample has ellipses where the reader's own findings go.
FOUND = {"cpu": {"cores": 8}, "memory": {"total_gb": 64}, "gpus": []}


@pytest.fixture(scope="module")
def compose(project: Compose) -> Iterator[Compose]:
    """Published where containers outside reach it, on the specification's own ports where those are free."""
    project("down", "-v", "--remove-orphans")
    before = (project.bind, project.ports)
    project.bind = bridge_address()
    printed = {"nats": 4222, **{spec.name: spec.port for spec in SERVICES}}
    if all_free(project.bind, printed.values()):
        project.ports = {**project.ports, **printed}
    try:
        project("up", "-d")
        for spec in SERVICES:
            wait_for(lambda name=spec.name: project.health(name), 60)
        yield project
        project("down", "-v", "--remove-orphans")
    finally:
        project.bind, project.ports = before
        project.files, project.profiles = project.files[:1], project.profiles[:1]


def test_the_curl_examples_of_the_specification(compose: Compose) -> None:
    requests = specification.curl_requests()
    for request in [found for found in requests if found.path in ("/healthz", "/metrics")]:
        assert _perform(compose, request).status_code == 200
    deploy, submit, measure, query = (
        next(found for found in requests if found.path == path)
        for path in (
            "/api/v1/vllm/deploy",
            "/api/v1/work/submit",
            "/api/v1/benchmark/run",
            "/api/v1/nodes/query",
        )
    )
    assert _perform(compose, query).json()["count"] == 0  # asks for a GPU
    assert _perform(compose, deploy).status_code == 202
    wait_for(lambda: compose.instance_ready("llama-3-70b"), 90)
    work_id = _perform(compose, submit).json()["work_id"]
    item = wait_for(lambda: _completed(compose, work_id), 90)
    assert item["result"]["text"]
    run = _perform(compose, measure)
    assert run.status_code == 202, run.text
    path = f"/api/v1/benchmark/{run.json()['benchmark_id']}"
    ended = compose.request("DELETE", "benchmark-runner", path).json()
    assert ended["status"] == "cancelled", ended


def test_a_process_outside_registers_and_works(compose: Compose) -> None:
    registry, nats = compose.url("node-registry"), compose.nats_url
    environment = {**os.environ, "NODE_REGISTRY_URL": registry, "NATS_URL": nats}
    done = subprocess.run(
        [sys.executable, "-c", _registration()],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "registered"
    worker = subprocess.Popen(
        [sys.executable, str(WORKER)], env={**environment, "NODE_ID": "process-outside"}
    )
    try:
        _counts_words(compose, "process-outside")
    finally:
        worker.terminate()
        assert worker.wait(10) == 0


def test_a_container_outside_registers_asks_and_works(compose: Compose) -> None:
    """By `host.docker.internal`, the specification's three variables and its extra host."""
    host = "host.docker.internal"
    variables = {
        "NODE_REGISTRY_URL": f"http://{host}:{compose.ports['node-registry']}",
        "VLLM_ORCHESTRATOR_URL": f"http://{host}:{compose.ports['vllm-orchestrator']}",
        "NATS_URL": f"nats://{host}:{compose.ports['nats']}",
    }
    options = [
        "--add-host",
        f"{host}:host-gateway",
        *(w for k, v in variables.items() for w in ("-e", f"{k}={v}")),
    ]
    image = "compute/compute-node:0.1.0"
    answer = docker("run", "--rm", *options, image, "python", "-c", _registration())
    assert json.loads(answer)["status"] == "registered"
    look = "import httpx, os; print(httpx.get(os.environ['VLLM_ORCHESTRATOR_URL'] + '/healthz').status_code)"
    assert docker("run", "--rm", *options, image, "python", "-c", look) == "200"
    options += ["-e", f"NODE_ID={OUTSIDE}", "-v", f"{WORKER}:/worker.py:ro", "--name", OUTSIDE]
    docker("run", "-d", "--rm", *options, image, "python", "/worker.py")
    try:
        _counts_words(compose, OUTSIDE)
    finally:
        docker("stop", OUTSIDE)


def test_prometheus_scrapes_all_six_and_knows_the_rules(compose: Compose) -> None:
    compose.profiles.append("monitoring")
    compose("up", "-d", "prometheus")  # no image of Grafana can be had where these tests are run
    wait_for(lambda: state_of("prometheus") == "healthy", 60)
    root = f"http://127.0.0.1:{compose.ports['prometheus']}/api/v1"

    def scraped() -> bool:
        targets = httpx.get(f"{root}/targets", timeout=10).json()["data"]["activeTargets"]
        ours = {target["labels"]["instance"]: target["health"] for target in targets}
        return all(ours.get(f"{spec.name}:{spec.port}") == "up" for spec in SERVICES)

    wait_for(scraped, 60)
    groups = httpx.get(f"{root}/rules", timeout=10).json()["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]]
    compose("rm", "-sf", "prometheus")
    compose.profiles.remove("monitoring")


def test_engines_in_containers_of_their_own(compose: Compose, tmp_path: Path) -> None:
    """The overlay: the orchestrator reaches Docker through the proxy alone, its engines have a network."""
    compose.files.append("deploy/compose.docker-runtime.yml")
    compose.environment["LLAMA_DOCKER_IMAGE"] = llama_image(tmp_path)
    compose("build", "docker-proxy")
    compose("up", "-d")
    wait_for(lambda: compose.health("vllm-orchestrator"), 60)
    assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", "docker-proxy") == "none"
    ask = {"model_name": "smollm2", "model_path": "/models/smollm2", "instance_name": "apart"}
    compose.post("vllm-orchestrator", "/api/v1/vllm/deploy", ask)
    wait_for(lambda: compose.instance_ready("apart"), 90)
    [container] = docker("ps", "-q", "--filter", "label=compute.instance=apart").split()
    shape = docker("inspect", "-f", "{{.HostConfig.NetworkMode}} {{.HostConfig.PortBindings}}", container)
    assert shape == "compute-engines map[]"
    body = {"model": "apart", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    answer = compose.post("vllm-orchestrator", "/v1/completions", body)
    assert "Paris" in answer["choices"][0]["text"]
    # Nodes of the tests before, that only ever registered, would take what nobody serves for this moment.
    node_id = wait_for(lambda: _serving_node(compose, "apart"), 60)
    work = {
        "work_type": "inference",
        "model_name": "apart",
        "requirements": {"node_id": node_id},
        "payload": {"prompt": "Hello", "max_tokens": 8},
    }
    work_id = compose.post("work-marshaling", "/api/v1/work/submit", work)["work_id"]
    wait_for(lambda: _completed(compose, work_id), 90)


def test_down_leaves_no_engine_either(compose: Compose) -> None:
    compose("down", "-v", "--remove-orphans")
    assert [compose.left(kind) for kind in ("container", "network", "volume")] == ["", "", ""]
    assert (
        docker("ps", "-aq", "--filter", "label=compute.engine=1", "--filter", "network=compute-engines") == ""
    )


def _perform(compose: Compose, request: Request) -> Any:
    return compose.request(request.method, PORTS[request.port], request.path, request.body)


def _serving_node(compose: Compose, model: str) -> Any:
    """The node that takes inference work and serves the model, once it is known."""
    nodes = compose.get("node-registry", "/api/v1/nodes")["nodes"]
    able = (node for node in nodes if model in (node.get("supported_models") or ()))
    return next((node["node_id"] for node in able if "inference" in (node.get("work_types") or ())), None)


def _completed(compose: Compose, work_id: str) -> Any:
    item = compose.get("work-marshaling", f"/api/v1/work/{work_id}?wait=30")
    assert item["status"] not in ("failed", "cancelled"), item
    return item if item["status"] == "completed" else None


def _counts_words(compose: Compose, node_id: str) -> None:
    body = {
        "work_type": "word-count",
        "payload": {"text": "to be or not"},
        "requirements": {"node_id": node_id},
    }
    work_id = compose.post("work-marshaling", "/api/v1/work/submit", body)["work_id"]
    item = wait_for(lambda: _completed(compose, work_id), 60)
    assert (item["assigned_node"], item["result"]) == (node_id, {"words": 4})


def _registration() -> str:
    """The specification's sample, its ellipses filled, as a program that prints the answer."""
    source = specification.python_block("register_as_compute_node")
    for name in FOUND:
        source = source.replace(f'"{name}": {{...}}', f'"{name}": capabilities["{name}"]')
        source = source.replace(f'"{name}": [...]', f'"{name}": capabilities["{name}"]')
    assert "..." not in source
    return (
        f"import json, os\ndef detect_capabilities(): return {FOUND!r}\n{source}\n"
        "print(json.dumps(asyncio.run(register_as_compute_node())))"
    )
