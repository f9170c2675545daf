"""The specification's own samples, extracted from it and run as printed."""

import asyncio
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest

from tests.e2e.conftest import wait_ready
from tests.support import specification
from tests.support.specification import Request
from tests.support.suite import PORTS, RunningSuite, wait_for

pytestmark = pytest.mark.engine

QUIET_SECONDS = 60
BUILT_IN_ITEMS = 100


@pytest.fixture(scope="module")
def llama(suite: RunningSuite, model_file: Path) -> None:
    """`/models/llama-3-70b` of the specification, here with the small model's weights in it."""
    folder = suite.home / "models" / "llama-3-70b"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / model_file.name).exists():
        shutil.copy(model_file, folder)


def perform(suite: RunningSuite, request: Request, **names: str) -> httpx.Response:
    """The request as printed, at the port this suite's service has, its `{placeholders}` filled."""
    path = request.path
    for name, value in names.items():
        path = path.replace("{" + name + "}", value)
    body = request.body
    if body and "model_path" in body:  # /models is where a container has its models
        body = {**body, "model_path": body["model_path"].replace("/models", str(suite.home / "models"))}
    options = {"json": body} if body is not None else {}
    return suite.request(request.method, PORTS[request.port], path, **options)


def test_health_and_metrics_lines(suite: RunningSuite) -> None:
    lines = [request for request in specification.curl_requests() if request.path in ("/healthz", "/metrics")]
    assert len(lines) == 9
    for request in lines:
        assert perform(suite, request).status_code == 200


def test_deploy_then_submit_by_the_instance_name(suite: RunningSuite, llama: None) -> None:
    """The two curl examples, one after the other: the model deployed as llama-3-70b answers for it."""
    deploy, submit = (
        next(r for r in specification.curl_requests() if r.path == path)
        for path in ("/api/v1/vllm/deploy", "/api/v1/work/submit")
    )
    answer = perform(suite, deploy)
    assert answer.status_code == 202, answer.text
    assert answer.json()["instance_name"] == "llama-3-70b"
    wait_ready(suite, "llama-3-70b")
    submitted = perform(suite, submit)
    assert submitted.status_code == 202
    item = suite.get("work-marshaling", f"/api/v1/work/{submitted.json()['work_id']}", params={"wait": 30})
    item = wait_for(lambda: _final(suite, item["work_id"]), 60)
    assert item["status"] == "completed", item
    assert item["result"]["text"]


def test_every_other_curl_example(suite: RunningSuite, llama: None) -> None:
    allowed = {
        "/api/v1/nodes/query": {200},
        "/api/v1/benchmark/run": {202},
        "/api/v1/gpu/states": {200},
        "/api/v1/nodes": {200},
        "/api/v1/work?status=pending": {200},
    }
    done = {"/healthz", "/metrics", "/api/v1/vllm/deploy", "/api/v1/work/submit"}
    rest = [request for request in specification.curl_requests() if request.path not in done]
    assert {request.path for request in rest} == set(allowed)
    for request in rest:
        answer = perform(suite, request)
        assert answer.status_code in allowed[request.path], (request.path, answer.text)


def test_the_listed_routes(suite: RunningSuite, llama: None) -> None:
    """The listings of the Services chapter; ids come from the answers before."""
    ids = {
        "node_id": "test-node",
        "instance_name": "llama-3-70b",
        "reservation_id": "res-unknown",
        "benchmark_id": "bench-unknown",
    }
    work = suite.post("work-marshaling", "/api/v1/work/submit", {"work_type": "never", "payload": {}})
    ids["work_id"] = work["work_id"]
    refused = {"{reservation_id}": 404, "{benchmark_id}": 404, "/api/v1/gpu/reserve": 409}
    seen = set()
    for request in specification.listed_requests():
        if request.path == "/api/v1/nodes/register" or (
            request.method == "DELETE" and "{instance" in request.path
        ):
            continue  # the registration sample and the lifecycle tests cover these
        answer = perform(suite, request, **ids)
        seen.add(request.path)
        expected = next((code for mark, code in refused.items() if mark in request.path), None)
        if expected is None:
            assert answer.status_code < 300 or answer.status_code == 409, (request, answer.text)
        else:
            assert answer.status_code == expected, (request, answer.text)
    assert len(seen) >= 15


async def test_register_and_worker_samples(
    suite: RunningSuite, smollm2: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain node that never beats takes work a minute later, and finishes nobody else's items."""
    monkeypatch.setenv("NODE_REGISTRY_URL", suite.url("node-registry"))
    monkeypatch.setenv("NATS_URL", suite.nats_url)
    answer = await _run_registration()
    assert answer["status"] == "registered"
    registered = time.monotonic()
    taken: list[dict[str, Any]] = []

    async def process_work(work: dict[str, Any]) -> dict[str, Any]:
        taken.append(work)
        return {"done_by": "the sample"}

    async with (
        _sample_worker(process_work),
        httpx.AsyncClient(base_url=suite.url("work-marshaling"), timeout=60) as client,
    ):
        await _built_in_items_stay_its_own(client, smollm2["instance_name"])
        assert len(taken) >= BUILT_IN_ITEMS  # it saw them all, and answered them all
        await asyncio.sleep(max(0.0, registered + QUIET_SECONDS - time.monotonic()))
        submitted = await client.post("/api/v1/work/submit", json={"work_type": "test", "payload": {"n": 1}})
        work_id = submitted.json()["work_id"]
        item = (await client.get(f"/api/v1/work/{work_id}", params={"wait": 30})).json()
    assert (item["status"], item["assigned_node"]) == ("completed", "my-submodule-node"), item
    assert item["result"] == {"done_by": "the sample"}


async def test_the_nats_command_lines(suite: RunningSuite) -> None:
    """`nats server info`, `nats sub` and `nats pub`, by the calls that command makes."""
    commands = specification.nats_commands()
    assert [command[:2] for command in commands] == [["nats", "server"], ["nats", "sub"], ["nats", "pub"]]
    client = await nats.connect(suite.nats_url)
    info = json.loads((await client.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout=5)).data)
    assert info["server"]["jetstream"] is True
    announced = await client.subscribe(commands[1][2])
    await client.flush()
    await client.publish("compute.nodes.reannounce.v1", b'{"node_id": "test-node"}')
    assert json.loads((await announced.next_msg(10)).data)["node_id"] == "test-node"
    before = suite.get("work-marshaling", "/api/v1/stats")
    await client.publish(commands[2][2], commands[2][3].encode())
    await client.flush()
    assert suite.get("work-marshaling", "/api/v1/stats")["total_requests"] == before["total_requests"]
    await client.close()


async def _run_registration() -> dict[str, Any]:
    source = specification.python_block("register_as_compute_node")
    source = source.replace('"cpu": {...}', '"cpu": capabilities["cpu"]')
    source = source.replace('"memory": {...}', '"memory": capabilities["memory"]')
    source = source.replace('"gpus": [...]', '"gpus": capabilities["gpus"]')
    assert "..." not in source
    capabilities = {
        "cpu": {"cores": 8, "threads": 16},
        "memory": {"total_gb": 64},
        "gpus": [{"index": 0, "name": "NVIDIA GeForce RTX 3090", "vram_gb": 24}],
    }
    names: dict[str, Any] = {"os": os, "detect_capabilities": lambda: capabilities}
    exec(compile(source, "specification", "exec"), names)  # noqa: S102 - the sample is to run as printed
    answer: dict[str, Any] = await names["register_as_compute_node"]()
    return answer


class _sample_worker:  # noqa: N801 - reads as the context it is
    """The specification's worker connected; its connection is closed at the end."""

    def __init__(self, process_work: Any) -> None:
        self._process_work = process_work
        self._connections: list[Any] = []

    async def __aenter__(self) -> None:
        source = specification.python_block("connect_to_work_marshal")
        names: dict[str, Any] = {"os": os, "asyncio": asyncio, "process_work": self._process_work}
        exec(compile(source, "specification", "exec"), names)  # noqa: S102
        connect = names["nats"].connect

        async def remember(*arguments: Any, **options: Any) -> Any:
            self._connections.append(await connect(*arguments, **options))
            return self._connections[-1]

        names["nats"] = type("Nats", (), {"connect": staticmethod(remember)})
        await names["connect_to_work_marshal"]()
        await self._connections[0].flush()

    async def __aexit__(self, *_exc: object) -> None:
        for connection in self._connections:
            await connection.close()


async def _built_in_items_stay_its_own(client: httpx.AsyncClient, model: str) -> None:
    body = {"work_type": "inference", "model_name": model, "payload": {"prompt": "Hi", "max_tokens": 1}}
    batch = await client.post("/api/v1/work/submit-batch", json={"items": [body] * BUILT_IN_ITEMS})
    assert batch.status_code == 202, batch.text
    for item in batch.json()["items"]:
        found = (await client.get(f"/api/v1/work/{item['work_id']}", params={"wait": 30})).json()
        assert found["status"] == "completed", found
        assert found["assigned_node"] == "test-node"
        assert "text" in found["result"]


def _final(suite: RunningSuite, work_id: str) -> dict[str, Any] | None:
    item: dict[str, Any] = suite.get("work-marshaling", f"/api/v1/work/{work_id}")
    return item if item["status"] in ("completed", "failed", "cancelled") else None
