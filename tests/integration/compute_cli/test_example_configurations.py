"""The examples in deploy/nats with real servers: TLS, accounts, and a leaf node at the end of a cable."""

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
import pytest

from compute_cli import nats_server, node_accounts
from compute_cli.nats_accounts import NodeAccount
from compute_common import subjects
from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from node_registry.service import NodeRegistry
from node_registry.settings import Settings as RegistrySettings
from tests.integration.compute_cli.accounts import is_refused
from tests.integration.work_marshaling.cluster import ended, submit
from tests.support import waiting
from tests.support.apps import serving
from tests.support.network import Host, NoNamespaceError, another_host
from tests.support.ports import free_ports
from tests.support.suite import wait_for
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings as WorkSettings

EXAMPLES = Path(__file__).parents[3] / "deploy" / "nats"
SITE = "site.one"
HANDLER = """
import asyncio, os
from compute_node import Worker
worker = Worker(os.environ["NODE_ID"], announce=True)
@worker.handles("site")
async def work(job):
    return {"at": os.environ["NODE_ID"]}
asyncio.run(worker.run())
"""


class Hub:
    """A copy of an example with its accounts and certificates, on ports of its own."""

    def __init__(self, folder: Path, example: str, address: str) -> None:
        self.folder = folder
        self.address = address
        self.port, self.leaf_port = free_ports(2)
        (folder / "nodes").mkdir(parents=True)
        node_accounts.write_accounts(folder / "nodes")
        text = (EXAMPLES / example).read_text().replace("/data/jetstream", str(folder / "js"))
        text = text.replace('http: "127.0.0.1:8222"', "")
        text = text.replace("0.0.0.0:4222", f"{address}:{self.port}")
        (folder / example).write_text(text.replace("0.0.0.0:7422", f"{address}:{self.leaf_port}"))
        self.config = folder / example

    def settings(self, scheme: str = "nats") -> dict[str, Any]:
        """How the suite's own programs log in."""
        login = nats_server.shared_login(self.folder / "nodes")
        return {
            "NATS_URL": f"{scheme}://{self.address}:{self.port}",
            **login,
            "NATS_CA": str(self.folder / "tls/ca.pem") if scheme == "tls" else None,
        }

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        with _server(self.config, self.folder / "hub.log") as process:
            wait_for(lambda: "Server is ready" in (self.folder / "hub.log").read_text(), 5)
            yield process


@contextmanager
def _server(
    config: Path, log: Path, host: Host | None = None, **more: str
) -> Iterator["subprocess.Popen[bytes]"]:
    argv = [str(nats_server.find_binary()), "-c", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            host.inside(argv) if host else argv,
            env={**os.environ, **more},
            stdout=out,
            stderr=out,
            cwd=config.parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def certificates(folder: Path, address: str) -> None:
    """An authority of our own and a server's certificate for `address`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make certificates with")
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    ca = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority"]
    own = [
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-subj",
        "/CN=hub",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
    ]
    name = ["-addext", f"subjectAltName=IP:{address}"]
    for argv in ([*key, *ca], [*key, *own, *name]):
        command = [openssl, "req", "-x509", *argv]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)


@asynccontextmanager
async def bus_of(settings: dict[str, Any]) -> AsyncIterator[Bus]:
    bus = Bus(NatsSettings.model_validate(settings), "test")
    bus.start()
    assert await bus.wait_connected(10), bus.detail
    try:
        yield bus
    finally:
        await bus.stop()


async def test_with_accounts_nobody_gets_in_without_a_login(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "hub", "accounts.conf", "127.0.0.1")
    with hub.running() as process:
        async with bus_of(hub.settings()) as bus:
            await bus.jetstream().account_info()
            assert await is_refused(hub.settings()["NATS_URL"])
            node = node_accounts.add(hub.folder / "nodes", "late.one")
            (hub.folder / "nodes" / "nats.pid").write_text(str(process.pid))
            assert node_accounts.reload(hub.folder / "nodes")
            credentials = tmp_path / "late.creds"
            credentials.write_text(f"late.one:{node.password}\n")
            login = {"NATS_URL": hub.settings()["NATS_URL"], "NATS_CREDS": str(credentials)}
            heard = asyncio.Event()

            async def note(_body: dict[str, Any]) -> None:
                heard.set()

            await bus.subscribe("compute.node.late=2Eone.announce", note)
            await bus.flush()
            async with bus_of(login) as own:

                async def arrives() -> bool:
                    await own.publish(subjects.NODES_ANNOUNCE, {"node_id": "late.one", "hostname": "h"})
                    return heard.is_set()

                await waiting.until(arrives)


async def test_a_node_at_a_remote_site_announces_and_works(tmp_path: Path) -> None:
    """Its site has a server of its own on loopback, and one outbound TLS connection to the hub."""
    try:
        with another_host() as (address, site):
            await _remote_site(tmp_path, address, site)
    except NoNamespaceError as error:
        pytest.skip(str(error))


async def _remote_site(folder: Path, address: str, site: Host) -> None:
    hub = Hub(folder / "hub", "tls.conf", address)
    certificates(hub.folder / "tls", address)
    node = node_accounts.add(hub.folder / "nodes", SITE)
    leaf = folder / "leaf"
    (leaf / "tls").mkdir(parents=True)
    shutil.copy(hub.folder / "tls/ca.pem", leaf / "tls/ca.pem")
    shutil.copy(EXAMPLES / "leaf.conf", leaf)
    settings = hub.settings("tls")
    with hub.running():
        with pytest.raises(ssl.SSLError):  # the system's authorities do not know the certificate
            await nats.connect(settings["NATS_URL"], allow_reconnect=False, error_cb=_quiet)
        registry = NodeRegistry(RegistrySettings.model_validate({**settings, "NODE_ID": "hub"}))
        marshaler = WorkMarshaling(WorkSettings.model_validate({**settings, "NODE_ID": "hub"}))
        async with bus_of(settings) as bus, serving(registry), serving(marshaler) as client:
            with (
                _server(leaf / "leaf.conf", leaf / "log", site, NATS_SITE=SITE, NATS_HUB=_hub_url(hub, node)),
                _worker(site, leaf),
            ):
                await waiting.until(lambda: _online(bus), 30)
                work_id = await submit(client, work_type="site")
                item = await ended(client, work_id)
                assert (item["status"], item["result"]) == ("completed", {"at": SITE})
    assert node.password not in (leaf / "log").read_text() + (hub.folder / "hub.log").read_text()


def _hub_url(hub: Hub, node: NodeAccount) -> str:
    return f"tls://{node.node_id}:{node.password}@{hub.address}:{hub.leaf_port}"


async def _online(bus: Bus) -> bool:
    answer = await bus.request(subjects.NODES_QUERY, {})
    return [node["node_id"] for node in answer["nodes"]] == [SITE]


@contextmanager
def _worker(site: Host, folder: Path) -> Iterator[None]:
    environment = {**os.environ, "NATS_URL": "nats://127.0.0.1:4222", "NODE_ID": SITE, "NATS_ACCOUNT": "node"}
    process = site.popen([sys.executable, "-c", HANDLER], environment, str(folder / "worker.log"))
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)
        if process.stdin is not None:
            process.stdin.close()


async def _quiet(_error: Exception) -> None:
    return
