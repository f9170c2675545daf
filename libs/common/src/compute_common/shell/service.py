"""What a service is: a name, settings, routes, and what happens at start and stop."""

import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from fastapi import APIRouter
from pydantic import Field

from compute_common import __version__
from compute_common.bus import Bus
from compute_common.schemas.health import CheckResult
from compute_common.settings import MAX_BODY_BYTES, env
from compute_common.shell.metrics import Metrics
from compute_common.shell.rest_settings import RestSettings


class ServiceSettings(RestSettings):
    """Settings of any of the six; each adds its own."""

    max_body_bytes: int = Field(
        MAX_BODY_BYTES,
        validation_alias=env("COMPUTE_MAX_BODY_BYTES"),
        description="Larger request bodies are 413",
    )
    compute_replica: str = Field(
        "",
        validation_alias=env("COMPUTE_REPLICA"),
        description="Tells replicas of one service on one host apart; the same after a restart",
    )


@dataclass(frozen=True)
class Check:
    """A dependency: `probe` answers (ok, detail); without a required one the service is unhealthy."""

    probe: Callable[[], Awaitable[tuple[bool, str | None]]]
    required: bool = False


class Service:
    """Subclassed by each of the six. `start` and `stop` run inside the shell's lifespan.

    `self.bus` is started before `start`; it may not be connected yet (then `on_connect` hooks run later).
    """

    name: ClassVar[str]  # the compose service name
    title: ClassVar[str]
    description: ClassVar[str] = ""
    nats_required: ClassVar[bool] = False

    def __init__(self, settings: ServiceSettings) -> None:
        self.base_settings = settings
        self.node_id = settings.resolved_node_id()
        self.metrics = Metrics(self.name)
        self.bus = Bus(settings, self.connection_name(), self.metrics.observe_message)
        self.version = __version__
        self.ready = False
        self.started_at = time.monotonic()

    def connection_name(self) -> str:
        """How NATS knows this connection; the detector's is the node id itself."""
        return f"{self.name}@{self.node_id}"

    def replica_name(self) -> str:
        """Who this replica is, the same after a restart: what it held before is its own again."""
        return f"{socket.gethostname()}/{self.node_id}/{self.base_settings.compute_replica}"

    def routers(self) -> Sequence[APIRouter]:
        """The routes beside the shell's own."""
        return ()

    def checks(self) -> dict[str, Check]:
        """Dependencies beside NATS."""
        return {}

    async def start(self) -> None:
        """Subscribe, replay, open adapters. Afterwards the service is ready."""

    async def stop(self) -> None:
        """Undo `start`. The bus is drained after it."""

    def is_ready(self) -> bool:
        """Whether the service can do its job now; the shell also wants `start` to have ended."""
        return True

    async def check_results(self) -> dict[str, CheckResult]:
        """The state of every dependency."""
        results = {
            "nats": CheckResult(ok=self.bus.connected, required=self.nats_required, detail=self.bus.detail)
        }
        for name, check in self.checks().items():
            ok, detail = await check.probe()
            results[name] = CheckResult(ok=ok, required=check.required, detail=detail)
        return results
