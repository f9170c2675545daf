"""The Troubleshooting chapter of the specification, command by command, against the running containers."""

import asyncio
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import nats
import pytest

from compute_cli.suite import SERVICES
from tests.support import specification
from tests.support.compose import Compose
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def compose(project: Compose) -> Iterator[Compose]:
    project("down", "-v", "--remove-orphans")
    project("up", "-d")
    for spec in SERVICES:
        wait_for(lambda name=spec.name: project.health(name), 60)
    yield project
    project("down", "-v", "--remove-orphans")


async def test_node_not_discoverable(compose: Compose) -> None:
    info, watch, health = specification.chapter_commands("Node Not Discoverable")
    client = await nats.connect(compose.nats_url)  # `nats` is no program that can be had here: its own calls
    assert info == "nats server info"
    varz = json.loads((await client.request("$SYS.REQ.SERVER.PING.VARZ", b"", timeout=5)).data)
    assert varz["server"]["jetstream"] is True
    assert shlex.split(watch)[:2] == ["nats", "sub"]
    announced = await client.subscribe(shlex.split(watch)[2])
    await client.flush()
    await client.publish("compute.nodes.reannounce.v1", b'{"node_id": "*"}')
    [node] = compose.get("node-registry", "/api/v1/nodes")["nodes"]
    assert json.loads((await announced.next_msg(10)).data)["node_id"] == node["node_id"]
    await client.close()
    assert (await _shell(compose, health))["status"] == "healthy"


async def test_vllm_deployment_failed(compose: Compose) -> None:
    states, models, logs = specification.chapter_commands("vLLM Deployment Failed")
    assert (await _shell(compose, states))["gpus"] == []
    assert (await _run(f"docker exec vllm-orchestrator {models}")).split() == ["llama-3-70b", "smollm2"]
    lines = (await _run(f"{logs} 2>&1")).splitlines()  # as printed: the container has that name
    assert any("vllm-orchestrator" in line for line in lines)


async def test_work_not_processing(compose: Compose) -> None:
    queue, publish, nodes = specification.chapter_commands("Work Not Processing")
    waiting = compose.post("work-marshaling", "/api/v1/work/submit", {"work_type": "nobody-does-this"})[
        "work_id"
    ]
    assert [item["work_id"] for item in (await _shell(compose, queue))["items"]] == [waiting]
    argv = shlex.split(publish)
    assert argv[:2] == ["nats", "pub"]
    client = await nats.connect(compose.nats_url)
    before = compose.get("work-marshaling", "/api/v1/stats")["total_requests"]
    await client.publish(argv[2], argv[3].encode())
    await client.flush()
    await client.close()
    assert compose.get("work-marshaling", "/api/v1/stats")["total_requests"] == before
    [node] = (await _shell(compose, nodes))["nodes"]
    assert node["status"] in ("online", "busy")


async def _shell(compose: Compose, command: str) -> Any:
    """A curl line as printed, in a shell, at the port that the service has here."""
    ports = {spec.port: compose.ports[spec.name] for spec in SERVICES}
    here = re.sub(r"localhost:(\d+)", lambda found: f"localhost:{ports[int(found[1])]}", command)
    assert here.startswith("curl http://localhost:"), here
    return json.loads(await _run(here.replace("curl ", "curl -sSf ", 1)))


async def _run(command: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return str(done.stdout)
