"""What NATS servers say of themselves, for Prometheus, which cannot read their own pages."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import AliasPath, Field, ValidationError

from compute_common.schemas.base import Wire
from compute_common.tasks import end_tasks, every

SUBJECT = "$SYS.REQ.SERVER.PING.VARZ"
LOOK_SECONDS = 15.0
FIRST_SECONDS = 2.0


class Figures(Wire):
    """One server's answer, as far as it is shown."""

    server: str = Field(validation_alias=AliasPath("server", "name"))
    connections: int = Field(0, validation_alias=AliasPath("data", "connections"))
    slow_consumers: int = Field(0, validation_alias=AliasPath("data", "slow_consumers"))
    memory_bytes: int = Field(0, validation_alias=AliasPath("data", "mem"))
    stored_bytes: int = Field(0, validation_alias=AliasPath("data", "jetstream", "stats", "storage"))
    most_stored_bytes: int = Field(
        0, validation_alias=AliasPath("data", "jetstream", "config", "max_storage")
    )


_SHOWN = (
    ("connections", "compute_nats_server_connections", "Connections to a NATS server"),
    ("memory_bytes", "compute_nats_server_memory_bytes", "Resident memory of a NATS server"),
    ("stored_bytes", "compute_nats_server_stored_bytes", "What JetStream has on a server's disk"),
    ("most_stored_bytes", "compute_nats_server_store_limit_bytes", "What it may have there"),
)


class ServerFigures(Collector):
    """`ask(subject)`: every server's answer, none without a login to the system account."""

    def __init__(self, ask: Callable[[str], Awaitable[list[bytes]]]) -> None:
        self._ask = ask
        self._found: list[Figures] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="server figures")

    async def stop(self) -> None:
        await end_tasks([self._task])

    async def look(self) -> None:
        """Ask once; servers that do not answer have no figures."""
        found = []
        for answer in await self._ask(SUBJECT):
            try:
                found.append(Figures.model_validate_json(answer))
            except ValidationError:
                continue
        self._found = found

    async def _run(self) -> None:
        while not self._found:  # the connection is still being made, or nobody gave a login
            await asyncio.sleep(FIRST_SECONDS)
            await self.look()
        await every(LOOK_SECONDS, self.look)

    def collect(self) -> Iterator[Metric]:
        for field, name, text in _SHOWN:
            family = GaugeMetricFamily(name, text, labels=["server"])
            for figures in self._found:
                family.add_metric([figures.server], getattr(figures, field))
            yield family
        slow = CounterMetricFamily(
            "compute_nats_server_slow_consumers",
            "Clients that a server dropped because they read too slowly",
            labels=["server"],
        )
        for figures in self._found:
            slow.add_metric([figures.server], figures.slow_consumers)
        yield slow
