"""deploy/compose.cluster.yml on one Engine: three NATS servers that stand for three hosts."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nats
import nats.errors
import nats.js.errors
import pytest
from nats.js.api import StreamConfig

from tests.support.compose import ROOT, Compose, bridge_address, compose_command, state_of
from tests.support.docker_proxy import docker
from tests.support.ports import free_ports
from tests.support.suite import wait_for
from tests.support.waiting import until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = [f"computetest-nats-{number}" for number in (1, 2, 3)]
PASSWORD = "n4tsPassword"
KEY = "a-key-of-the-whole-cluster-0123456789"


class Hosts:
    """One project per host, on one address with ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = bridge_address()
        self.queue_port, *ports = free_ports(7)
        self.clients, self.routes = ports[:3], ports[3:]
        self.folder = folder

    def url(self, host: int) -> str:
        return f"nats://{self.address}:{self.clients[host]}"

    def compose(self, host: int, *arguments: str) -> None:
        command = compose_command()
        assert command is not None
        renamed = self.folder / f"{host}.yml"
        renamed.write_text(f"services: {{nats: {{container_name: {NAMES[host]}}}}}")
        files = ["docker-compose.yml", "deploy/compose.cluster.yml", str(renamed)]
        argv = [*command, "-p", NAMES[host], *(word for file in files for word in ("-f", file))]
        argv += ["--profile", "compute", *arguments]
        environment = {**os.environ, **self._variables(host)}
        done = subprocess.run(
            argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr

    def _variables(self, host: int) -> dict[str, str]:
        reached = {f"CLUSTER_HOST_{n}": f"{self.address}:{port}" for n, port in enumerate(self.routes, 1)}
        return {
            **reached,
            "COMPUTE_BIND": self.address,
            "NODE_HOSTNAME": f"host-{host + 1}",
            "NATS_PORT": str(self.clients[host]),
            "NATS_CLUSTER_PORT": str(self.routes[host]),
            "WORK_MARSHALING_PORT": str(self.queue_port),
            "COMPUTE_API_KEY": KEY,
            "NATS_PASSWORD": PASSWORD,
            "NATS_SYS_PASSWORD": "s1sPassword",
            "NATS_CLUSTER_PASSWORD": "r0utesPassword",
        }


@pytest.fixture
def hosts(project: Compose, tmp_path: Path) -> Iterator[Hosts]:
    project("down", "-v", "--remove-orphans")
    found = Hosts(tmp_path)
    try:
        for host in range(3):
            found.compose(host, "up", "-d", "nats")
        for name in NAMES:
            wait_for(lambda name=name: state_of(name) == "healthy", 60)
        yield found
    finally:
        for host in range(3):
            found.compose(host, "down", "-v")


async def test_one_host_is_lost_and_nothing_with_it(hosts: Hosts) -> None:
    with socket.create_connection((hosts.address, hosts.clients[0]), timeout=10) as connection:
        assert (
            json.loads(connection.makefile("rb").readline().removeprefix(b"INFO "))["auth_required"] is True
        )
    client = await nats.connect(hosts.url(0), user="compute", password=PASSWORD)
    log = client.jetstream(timeout=10)
    config = StreamConfig(name="LOG", subjects=["log"], num_replicas=3)
    await until(lambda: _made(log, config), 30)
    for number in range(10):
        await log.publish("log", str(number).encode())
    await until(lambda: _all_told(client, hosts), 20)
    docker("kill", NAMES[1])
    await until(lambda: _acknowledged(log), 30)
    info = await log.stream_info("LOG")
    assert info.state.messages >= 11
    await client.close()


async def _made(log: Any, config: StreamConfig) -> bool:
    try:
        await log.add_stream(config)
    except (nats.js.errors.APIError, nats.errors.Error):  # no quorum yet
        return False
    return True


async def _all_told(client: Any, hosts: Hosts) -> bool:
    """Clients learn addresses that they can reach."""
    return {server.netloc for server in client.servers} == {
        hosts.url(host)[len("nats://") :] for host in range(3)
    }


async def _acknowledged(log: Any) -> bool:
    try:
        await log.publish("log", b"after")
    except (nats.js.errors.Error, nats.errors.Error):
        return False
    return True


async def test_the_queue_of_a_host_keeps_its_log_on_all_three_and_wants_the_key(hosts: Hosts) -> None:
    hosts.compose(0, "up", "-d", "work-marshaling")
    url = f"http://{hosts.address}:{hosts.queue_port}"
    wait_for(lambda: _ready(url), 60)
    assert (_submitted(url), _submitted(url, Authorization=f"Bearer {KEY}")) == (401, 202)
    client = await nats.connect(hosts.url(2), user="compute", password=PASSWORD)
    info = await client.jetstream(timeout=10).stream_info("COMPUTE_WORK")
    assert info.config.num_replicas == 3
    assert info.state.messages >= 1
    await client.close()


def _submitted(url: str, **headers: str) -> int:
    work = {"work_type": "anything", "payload": {}}
    return httpx.post(f"{url}/api/v1/work/submit", json=work, headers=headers, timeout=10).status_code


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False
