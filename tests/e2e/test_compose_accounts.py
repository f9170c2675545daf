"""deploy/compose.accounts.yml: each other host logs in to an account of its own, as its first lines tell."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from compute_common import subjects, wire_json
from tests.integration.compute_cli.accounts import is_refused
from tests.support.compose import ROOT, Compose
from tests.support.docker_proxy import docker
from tests.support.suite import wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The accounts' folder, with the node `early` in it; containers mount it."""
    add_node(tmp_path / "nats", "early")
    return tmp_path / "nats"


@pytest.fixture
def compose(project: Compose, folder: Path) -> Iterator[Compose]:
    project("down", "-v", "--remove-orphans")
    before = dict(project.environment)
    project.files.append("deploy/compose.accounts.yml")
    project.environment |= {
        "NATS_NODES_DIR": str(folder),
        "NATS_PASSWORD": (folder / "nats-compute.secret").read_text().strip(),
        "NATS_SYS_PASSWORD": (folder / "nats-sys.secret").read_text().strip(),
    }
    try:
        project("up", "-d", "nats", "node-registry")
        wait_for(lambda: project.health("node-registry"), 60)
        yield project
        project("down", "-v")
    finally:
        project.environment = before
        project.files.pop()


def test_a_node_logs_in_and_speaks_for_itself_alone(compose: Compose, folder: Path) -> None:
    assert asyncio.run(is_refused(compose.nats_url))
    asyncio.run(announce(compose, "early", login_of(folder, "early")))
    assert wait_for(lambda: known(compose) == {"early"}, 10)

    add_node(folder, "late")
    for _ in range(2):
        docker("kill", "-s", "HUP", "nats")
    asyncio.run(announce(compose, "late", login_of(folder, "late")))
    asyncio.run(announce(compose, "early", login_of(folder, "late")))  # a forgery arrives as its own
    assert wait_for(lambda: known(compose) == {"early", "late"}, 10)


def add_node(folder: Path, name: str) -> None:
    """The command of the overlay's first lines."""
    argv = [str(Path(sys.executable).with_name("compute")), "nats", "add-node", name, "--dir", str(folder)]
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def known(compose: Compose) -> set[str]:
    nodes = compose.get("node-registry", "/api/v1/nodes")["nodes"]
    return {str(node["node_id"]) for node in nodes}


def login_of(folder: Path, name: str) -> dict[str, str]:
    user, _, password = (folder / "nodes" / f"{name}.creds").read_text().strip().partition(":")
    return {"user": user, "password": password}


async def announce(compose: Compose, node_id: str, login: dict[str, str]) -> None:
    client = await nats.connect(compose.nats_url, **login)
    await client.publish(subjects.NODES_ANNOUNCE, wire_json.dump({"node_id": node_id, "hostname": node_id}))
    await client.drain()
