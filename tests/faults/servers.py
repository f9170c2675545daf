"""NATS servers with a configuration of the test's own: a small disk, or three in a cluster."""

import asyncio
import contextlib
import signal
import socket
import subprocess
from pathlib import Path

import nats.errors
import nats.js.errors

from compute_cli.nats_server import find_binary
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from tests.support import waiting
from tests.support.ports import free_ports

CONFIG = """\
listen: "{address}:{port}"
server_name: "{name}"
max_payload: 1MB
jetstream {{ store_dir: "{home}/store", max_memory_store: 64MB, max_file_store: {disk} }}
"""
CLUSTER = """\
cluster {{ name: "three", listen: "127.0.0.1:{port}", no_advertise: true, routes: [{routes}] }}
"""


class Server:
    """One server by its configuration file; can be killed and started again on its store."""

    def __init__(
        self,
        home: Path,
        name: str,
        port: int,
        *,
        disk: str = "1GB",
        cluster: str = "",
        address: str = "127.0.0.1",
    ) -> None:
        home.mkdir(parents=True)
        self.name, self.port, self._address = name, port, address
        self._config = home / "nats.conf"
        text = CONFIG.format(address=address, port=port, name=name, home=home, disk=disk)
        self._config.write_text(text + cluster)
        self._log = home / "nats.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self._address}:{self.port}"

    @property
    def argv(self) -> list[str]:
        binary = find_binary()
        assert binary is not None
        return [str(binary), "-c", str(self._config)]

    async def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self.argv, stdout=out, stderr=out)  # noqa: ASYNC220  (returns at once)
        await waiting.until(self._listens)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self._address, self.port), 0.2):
            return True
        return False

    async def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(self._process.wait, 10)
        self._process = None


def three(home: Path, address: str = "127.0.0.1") -> list[Server]:
    """Three servers of one cluster, not started; clients reach them at `address`."""
    ports = free_ports(6)
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports[3:])
    return [
        Server(
            home / f"s{n}",
            f"s{n}",
            ports[n],
            cluster=CLUSTER.format(port=ports[3 + n], routes=routes),
            address=address,
        )
        for n in range(3)
    ]


async def meta_leader_is_there(bus: Bus) -> bool:
    """Whether JetStream answers for the whole cluster."""
    try:
        await bus.jetstream(1).account_info()
    except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError):
        return False
    return True


async def leader_and_copies(bus: Bus, stream: str = WORK_STREAM) -> tuple[str, int]:
    """The server that leads the stream, and how many copies there are."""
    info = await bus.jetstream().stream_info(stream)
    assert info.cluster is not None
    return str(info.cluster.leader), 1 + len(info.cluster.replicas or [])
