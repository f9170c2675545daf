"""The cluster under chaos: every program under a supervisor that starts it again, as on a user's machines.

In the centre three NATS servers with everything in three copies, two registries, two marshalers; on each of
three hosts `compute up --host-only` and a worker of the SDK that writes down what it executes.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from compute_cli.children import Child, recorded_process
from compute_cli.suite import HOST_SERVICES, suite_from, uvicorn_argv
from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from tests.faults import rig
from tests.faults.chaos.places import Place, places
from tests.faults.chaos.plan import HOSTS
from tests.faults.servers import meta_leader_is_there, three
from tests.support import waiting
from tests.support.bent import Bent
from tests.support.ports import free_ports

SHARED = {
    **rig.SETTINGS,
    "WORK_STREAM_REPLICAS": "3",
    "NODE_HEARTBEAT_SECONDS": "1",
    "INSTANCE_TAKEOVER_SECONDS": "6",
    "ENGINE_RESTARTS": "10000",
    "ENGINE_START_SECONDS": "60",
    "VLLM_RUNTIME": "process",
    "COMPUTE_NODE_SLOTS": "2",
    "OMP_NUM_THREADS": "1",
}
PACKAGES = {"registry": "node_registry", "marshaler": "work_marshaling"}
STOP_SECONDS = 10.0


class Machine:
    """One host: its place, its home, and the addresses of its services."""

    def __init__(self, place: Place, number: int, home: Path, environment: Mapping[str, str]) -> None:
        self.place, self.node_id, self.home = place, f"host-{number}", home
        self.worker_id = f"worker-{number}"
        self.environment = {**environment, "COMPUTE_HOME": str(home), "NODE_ID": self.node_id}
        self.urls = {
            name: url for name, url in suite_from(self.environment).urls.items() if name in HOST_SERVICES
        }

    def process(self, name: str) -> psutil.Process | None:
        """What runs there under that name; `engine`: any of them."""
        folder = "engines" if name == "engine" else "run"
        pattern = "*.json" if name == "engine" else f"{name}.json"
        found = (recorded_process(path) for path in sorted((self.home / folder).glob(pattern)))
        return next((process for process in found if process is not None), None)


class Cluster:
    """`said` is what the supervisors reported; `urls` names every service of the centre."""

    def __init__(self, home: Path, centre: str, where: list[Place]) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self.effects = home / "effects"
        self.effects.touch()
        self.said: list[str] = []
        self._children: dict[str, Child] = {}
        self._places = where
        self.machines: list[Machine] = []
        self._servers = three(home / "nats", centre)
        self.nats_urls = [server.url for server in self._servers]
        self.urls: dict[str, str] = {}
        own = {name: value for name, value in os.environ.items() if name not in ("NATS_URL", "NODE_ID")}
        self._environment = own | SHARED | {"COMPUTE_HOME": str(home / "centre")}
        self.bent = Bent(home / "bent")
        self.bus = Bus(NatsSettings(NATS_URL=",".join(self.nats_urls)), "chaos")

    async def start(self) -> None:
        for number, server in enumerate(self._servers):
            await self._launch(f"nats {number}", server.argv, self._environment)
        self.bus.start()
        assert await self.bus.wait_connected(20)
        await waiting.until(lambda: meta_leader_is_there(self.bus), 60)
        for name, package in PACKAGES.items():
            for copy, port in enumerate(free_ports(2)):
                await self._central(f"{name} {copy}", package, port)
        for number, place in enumerate(self._places):
            environment = self._environment | await place.environment(self.nats_urls)
            environment |= self.bent.environment(f"host {number}")
            await self._host(Machine(place, number, self.home / f"host-{number}", environment), number)

    async def _central(self, name: str, package: str, port: int) -> None:
        more = {
            "NATS_URL": ",".join(self.nats_urls),
            "NODE_ID": "centre",
            "COMPUTE_REPLICA": name.replace(" ", "-"),
        }
        self.urls[name] = f"http://127.0.0.1:{port}"
        await self._launch(
            name,
            uvicorn_argv(package, "127.0.0.1", port),
            self._environment | self.bent.environment(name) | more,
        )

    async def _host(self, machine: Machine, number: int) -> None:
        self.machines.append(machine)
        machine.home.mkdir()
        up = [sys.executable, "-m", "compute_cli.main", "up", "--host-only"]
        await self._launch(f"host {number}/supervisor", machine.place.inside(up), machine.environment)
        work = [sys.executable, "-m", "tests.faults.worker", machine.environment["NATS_URL"]]
        argv = machine.place.inside([*work, machine.worker_id, str(self.effects)])
        await self._launch(f"host {number}/worker", argv, machine.environment)

    async def _launch(self, name: str, argv: list[str], environment: Mapping[str, str]) -> None:
        file = name.replace("/", "-").replace(" ", "-")
        logs, records = self.home / "logs", self.home / "records"
        child = Child(
            name, argv, environment, logs / f"{file}.log", records / f"{file}.json", self.said.append
        )
        self._children[name] = child
        await child.start()

    # --- what can be struck

    def process(self, target: str) -> psutil.Process | None:
        """The process of a target of the plan; None while it is not running."""
        if target in self._children:
            running = self._children[target].process
            try:
                return psutil.Process(running.pid) if running and running.returncode is None else None
            except psutil.NoSuchProcess:
                return None
        host, _, name = target.partition("/")
        return self.machines[int(host.split()[1])].process(name)

    def service_urls(self) -> dict[str, str]:
        """Every service of the run by a name of its own."""
        hosts = {f"{each.node_id}/{name}": url for each in self.machines for name, url in each.urls.items()}
        return self.urls | hosts

    def processes(self) -> list[psutil.Process]:
        """Every living process whose environment names a home of this run."""
        return [each for each in psutil.process_iter() if self._is_mine(each)]

    def engines(self) -> list[psutil.Process]:
        """Every engine of this run, known or not: it carries its orchestrator's mark."""
        return [each for each in psutil.process_iter() if self._marked(each)]

    def _is_mine(self, process: psutil.Process) -> bool:
        homes = _environ(process).get("COMPUTE_HOME", ""), _environ(process).get("COMPUTE_ENGINE_OWNER", "")
        return process.pid != os.getpid() and any(str(self.home) in home for home in homes)

    def _marked(self, process: psutil.Process) -> bool:
        return str(self.home) in _environ(process).get("COMPUTE_ENGINE_OWNER", "")

    # --- the end

    async def stop(self) -> None:
        """In order; what then still lives is killed by `running`."""
        hosts = [child for name, child in self._children.items() if name.startswith("host")]
        rest = [child for child in self._children.values() if child not in hosts]
        for group in (hosts, rest):
            for number in (signal.SIGTERM, signal.SIGKILL):
                for child in group:
                    child.signal(signal.SIGCONT)
                    child.signal(number)
                waits = [asyncio.create_task(child.wait()) for child in group]
                _done, pending = await asyncio.wait(waits, timeout=STOP_SECONDS)
                for task in pending:
                    task.cancel()
        await self.bus.stop()

    def kill_all(self) -> list[str]:
        """What was left, in words."""
        left = self.processes()
        words = [f"{process.pid} {' '.join(_argv(process))[:120]}" for process in left]
        for process in left:
            process.kill()
        return words


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else dict(process.environ())
    except (psutil.Error, OSError):
        return {}


def _argv(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return ["ended"]


@asynccontextmanager
async def cluster(home: Path, *, namespaces: bool = True) -> AsyncIterator[tuple[Cluster, str]]:
    """Started, not yet ready; nothing of it is left afterwards."""
    async with places(HOSTS, namespaces=namespaces) as (centre, where, words):
        made = Cluster(home, centre, where)
        try:
            await made.start()
            yield made, words
        finally:
            await made.stop()
            made.kill_all()


async def answered(client: httpx.AsyncClient, url: str) -> object:
    """The JSON of a GET, or None while there is no good one."""
    try:
        answer = await client.get(url)
        return answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None
