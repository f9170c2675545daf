"""Answers about the host itself: its check-up, and the ends of its programs' logs."""

import asyncio
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.checkup.facts import Nats, Reach
from compute_common.checkup.gathering import Place, check_up
from compute_common.checkup.port_reader import Wanted
from compute_common.checkup.program_log import read_log
from compute_common.problems import unavailable
from compute_common.schemas.checkup import Checkup, LogAsk, ProgramLog
from compute_common.tasks import end_tasks
from resource_detector.settings import Settings

FRESH_SECONDS = 2.0
PATIENCE_SECONDS = 20.0
SERVICES = (
    "node-registry", "resource-detector", "vllm-orchestrator", "work-marshaling", "benchmark-runner",
    "gpu-orchestrator",
)  # fmt: skip
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class HostDesk:
    """One look at a time, shared by who asks meanwhile and for two seconds after it."""

    def __init__(self, settings: Settings, bus: Bus, node_id: str) -> None:
        self._home = settings.compute_home.resolve()
        self._bus = bus
        self._nats_address = settings.safe_url
        self._node_id = node_id
        self._looking: asyncio.Task[Checkup] | None = None
        self._looked_at = 0.0

    async def serve(self) -> None:
        """On `compute.host.{checkup,log}.v1.<node_id>`."""
        await self._bus.serve(subjects.host_subject("checkup", self._node_id), self._checkup_asked)
        await self._bus.serve(subjects.host_subject("log", self._node_id), self._log_asked)

    async def stop(self) -> None:
        await end_tasks([self._looking])

    async def checkup(self) -> Checkup:
        """This host now; `Problem` 503 while a look hangs."""
        loop = asyncio.get_running_loop()
        stale = loop.time() - self._looked_at > FRESH_SECONDS
        if self._looking is None or (self._looking.done() and stale):
            self._looking = asyncio.create_task(self._look(), name="check-up")
        try:
            return await asyncio.wait_for(asyncio.shield(self._looking), PATIENCE_SECONDS)
        except TimeoutError as error:
            raise unavailable(
                "checkup-stalled", "something on this host does not answer; try again"
            ) from error

    async def log(self, ask: LogAsk) -> ProgramLog:
        """`Problem` 404 for a program without a log file here."""
        return await asyncio.to_thread(read_log, self._home / "logs", self._node_id, ask)

    async def _look(self) -> Checkup:
        try:
            return await asyncio.to_thread(check_up, self._place())
        finally:
            self._looked_at = asyncio.get_running_loop().time()

    def _place(self) -> Place:
        reach = Reach.ANSWERS if self._bus.connected else Reach.SILENT
        return Place(
            node_id=self._node_id,
            home=self._home,
            environ=os.environ,
            ports=wanted_ports(os.environ),
            nats=Nats(self._nats_address, reach),
            registry_url=os.environ.get("NODE_REGISTRY_URL"),
        )

    async def _checkup_asked(self, _body: Message) -> Checkup:
        return await self.checkup()

    async def _log_asked(self, body: Message) -> ProgramLog:
        return await self.log(LogAsk.model_validate(body))


def wanted_ports(environ: Mapping[str, str]) -> tuple[Wanted, ...]:
    """Of the services whose `<SERVICE>_URL` is on this host."""
    found = []
    for service in SERVICES:
        variable = service.upper().replace("-", "_")
        url = environ.get(f"{variable}_URL", "")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            continue
        if port and parts.hostname in _LOOPBACK:
            found.append(Wanted(service, f"{variable}_PORT", str(parts.hostname), port, url.rstrip("/")))
    return tuple(found)
