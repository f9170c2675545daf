"""`compute up`: NATS, the six services and the node program on this host, until a signal ends it.

Order of ending: the node program hands back what it runs, the services stop, engines follow, NATS goes last.
"""

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx
import psutil
from pydantic import ValidationError

from compute_cli import doorkeeper, nats_server
from compute_cli.children import Child, Say, end_groups, recorded_process
from compute_cli.containers import end_containers
from compute_cli.flood_watch import FloodWatch
from compute_cli.ports import taken_ports
from compute_cli.suite import SERVICE_NAMES, SERVICES, Suite, child_environment, uvicorn_argv, write_suite
from compute_common.access.listening import REFUSED, refusal_to_listen
from compute_common.access.tls import own_context
from compute_common.settings import CommonSettings
from compute_common.shell.rest_settings import RestSettings
from compute_common.tasks import end_tasks, every
from compute_common.wire_json import validation_errors

NODE_STOP_SECONDS = 1.2
SERVICE_STOP_SECONDS = 1.5
ENGINE_STOP_SECONDS = 1.0
NATS_STOP_SECONDS = 0.5
READY_SECONDS = 60.0
START_RETRIES = 3
LOG_LOOK_SECONDS = 10.0


class SuiteError(Exception):
    """The suite cannot start; the message says what to do."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Supervisor:
    """Owns the children of one suite."""

    def __init__(
        self,
        suite: Suite,
        environ: Mapping[str, str],
        *,
        say: Say,
        with_node: bool = True,
        services: Collection[str] = SERVICE_NAMES,
    ) -> None:
        self._suite = suite
        self._urls = {name: url for name, url in suite.urls.items() if name in services}
        self._say = say
        self._with_node = with_node
        node_id = CommonSettings(compute_home=suite.home).resolved_node_id()
        self.node_id = node_id
        self._login = suite.nats_port is not None and nats_server.wants_login(suite.nats_host, environ)
        login = nats_server.shared_login(suite.home) if self._login else {}
        self._environment = child_environment(suite, {**environ, **login}, node_id)
        self._children: dict[str, Child] = {}
        self._lock: IO[str] | None = None
        self._doorkeeper: asyncio.Task[None] | None = None
        self._flood_watch: asyncio.Task[None] | None = None
        self._logs: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start everything; SuiteError when it cannot be. Returns when all services are ready."""
        self._check_exposure()
        self._suite.home.mkdir(parents=True, exist_ok=True)
        for folder in ("models", "benchmarks", "run", "logs"):
            (self._suite.home / folder).mkdir(exist_ok=True)
        self._take_lock()
        await self._end_leftovers()
        if taken := list(taken_ports(self._suite, self._urls)):
            raise SuiteError("\n".join(taken))
        if self._suite.nats_port is not None:
            await self._start_nats(self._suite.nats_port)
        for spec in (spec for spec in SERVICES if spec.name in self._urls):
            address = self._suite.addresses[spec.name]
            await self._launch(
                spec.name, uvicorn_argv(spec.package, address.host, address.port), self._secrets(spec.name)
            )
        if self._with_node:
            await self._launch("compute-node", [sys.executable, "-m", "compute_node"])
        self._logs = asyncio.create_task(every(LOG_LOOK_SECONDS, self._bound_logs), name="logs")
        write_suite(self._suite, self._urls, os.getpid())
        await self._wait_ready()

    def _check_exposure(self) -> None:
        """SuiteError, before anything starts, for what each service would refuse: an open door."""
        try:
            settings = RestSettings(compute_home=self._suite.home)
        except ValidationError as error:
            raise SuiteError(validation_errors(error)[0]["message"]) from error
        keys = settings.key_ring().required
        for name in self._urls:
            host = self._suite.addresses[name].host
            reason = refusal_to_listen(host, keys=keys, allowed=settings.allow_no_key)
            if reason is not None:
                raise SuiteError(f"{name}: {reason}", REFUSED)

    async def stop(self) -> None:
        """End everything that `start` started, engines included, within five seconds."""
        if self._lock is None:
            return
        await end_tasks([self._doorkeeper, self._flood_watch, self._logs])
        nats = self._children.pop("nats", None)
        node = self._children.pop("compute-node", None)
        if node is not None:
            await _end([node], NODE_STOP_SECONDS)
        await _end(list(self._children.values()), SERVICE_STOP_SECONDS)
        engines = _recorded(self._suite.home / "engines")
        await end_groups(engines, ENGINE_STOP_SECONDS)
        if left := await end_containers(self._suite.home, self._environment):
            self._say(f"still running in containers, for no Docker proxy answers: {', '.join(left)}")
        if nats is not None:
            await _end([nats], NATS_STOP_SECONDS)
        (self._suite.run_records / "suite.json").unlink(missing_ok=True)
        self._lock.close()

    async def _bound_logs(self) -> None:
        for child in list(self._children.values()):
            await asyncio.to_thread(child.bound_log)

    def _secrets(self, name: str) -> Mapping[str, str]:
        """What only this program is told: the registry hears the system account of our own NATS server."""
        if name != "node-registry" or self._suite.nats_port is None:
            return {}
        return nats_server.system_login(self._suite.home)

    async def _launch(self, name: str, argv: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        child = Child(
            name=name,
            argv=argv,
            environment={**self._environment, **(more or {})},
            log=self._suite.logs / f"{name}.log",
            record=self._suite.run_records / f"{name}.json",
            say=self._say,
        )
        self._children[name] = child
        await child.start()

    async def _start_nats(self, port: int) -> None:
        binary = nats_server.find_binary()
        if binary is None:
            raise SuiteError(
                "no nats-server was found; run `make run` once, or set NATS_URL to a server of yours"
            )
        host = self._suite.nats_host
        config = nats_server.write_config(self._suite.home, port, host, login=self._login)
        await self._launch("nats", [str(binary), "-c", str(config)])
        if not await _until(lambda: _listening(host, port), 10):
            raise SuiteError(f"nats-server did not start; its log: {self._suite.logs / 'nats.log'}")
        keeping = doorkeeper.keep(self._suite.home, self._suite.nats_url)
        self._doorkeeper = asyncio.create_task(keeping, name="invitations")
        watching = FloodWatch(self._suite.home, self._suite.nats_url, self._say).keep()
        self._flood_watch = asyncio.create_task(watching, name="flood watch")

    async def _wait_ready(self) -> None:
        certificate = self._environment.get("COMPUTE_TLS_CERT")
        verify = own_context(certificate) if certificate else True
        async with httpx.AsyncClient(timeout=2, verify=verify) as client:

            async def statuses() -> dict[str, int | None]:
                urls = self._urls
                answers = await asyncio.gather(*(_readiness(client, url) for url in urls.values()))
                return dict(zip(urls, answers, strict=True))

            deadline = time.monotonic() + READY_SECONDS
            found = await statuses()
            while set(found.values()) != {200} and time.monotonic() < deadline:
                self._give_up_on_the_hopeless()
                await asyncio.sleep(0.1)
                found = await statuses()
        if silent := [name for name, status in found.items() if status is None]:
            raise SuiteError(
                f"no answer within {READY_SECONDS:g} s: {', '.join(silent)}; see {self._suite.logs}"
            )
        if unready := [name for name, status in found.items() if status != 200]:
            self._say(f"up, but not ready yet: {', '.join(unready)}; /healthz says why, it heals by itself")

    def _give_up_on_the_hopeless(self) -> None:
        for child in self._children.values():
            if child.restarts > START_RETRIES:
                raise SuiteError(f"{child.name} does not start; its log says why: {child.log}")

    def _take_lock(self) -> None:
        """One suite per COMPUTE_HOME."""
        lock = (self._suite.home / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            home = self._suite.home
            raise SuiteError(f"a suite already runs from {home}; `compute down` ends it") from error
        self._lock = lock

    async def _end_leftovers(self) -> None:
        """What a killed `compute up` left behind would hold ports and memory: end it first."""
        left = [*_recorded(self._suite.run_records), *_recorded(self._suite.home / "engines")]
        if left:
            self._say(f"ending {len(left)} programs that an earlier run left behind")
            await end_groups(left, 3.0)


async def run_until_signal(supervisor: Supervisor, then: Callable[[], Awaitable[bool]], say: Say) -> int:
    """Start, run `then`, wait for a signal unless `then` says to end, stop. Returns the exit code."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(supervisor, then, stop))
    halt = asyncio.create_task(stop.wait())
    code = 0
    try:
        await asyncio.wait({work, halt}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            await work
        else:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
    except SuiteError as error:
        say(str(error))
        code = error.code
    finally:
        halt.cancel()
        await supervisor.stop()
    return code


async def _work(supervisor: Supervisor, then: Callable[[], Awaitable[bool]], stop: asyncio.Event) -> None:
    await supervisor.start()
    if await then():
        await stop.wait()


async def _end(children: Sequence[Child], patience_seconds: float) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            child.signal(number)
        waits = [asyncio.create_task(child.wait()) for child in children]
        if not waits:
            return
        _done, pending = await asyncio.wait(waits, timeout=patience_seconds)
        for task in pending:
            task.cancel()
        if not pending:
            return


def _recorded(folder: Path) -> list[psutil.Process]:
    found = (recorded_process(path) for path in sorted(folder.glob("*.json")) if path.name != "suite.json")
    return [process for process in found if process is not None]


async def _readiness(client: httpx.AsyncClient, url: str) -> int | None:
    try:
        return (await client.get(f"{url}/readyz")).status_code
    except httpx.HTTPError:
        return None


async def _listening(host: str, port: int) -> bool:
    try:
        _reader, writer = await asyncio.open_connection("127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104
    except OSError:
        return False
    writer.close()
    return True


async def _until(probe: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await probe():
            return True
        await asyncio.sleep(0.02)
    return False
