"""What runs engines on a host: as processes of it, or as containers beside it."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from compute_common.enums import EngineKind

Told = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Order:
    """An engine to start: `command` as planned, its model a path of this host; `alone`: on one host only."""

    instance_name: str
    epoch: int
    kind: EngineKind
    command: Sequence[str]
    environment: Mapping[str, str]
    port: int
    alone: bool = True


class Engine(Protocol):
    """A started engine. It outlives us."""

    @property
    def identity(self) -> str:
        """What tells it from every other engine, for logs too."""

    @property
    def holder(self) -> Mapping[str, object]:
        """What a reservation is bound to: `pid` and `start_time`, or `container_id`."""

    async def alive(self) -> bool:
        """False once it has ended; a runtime that cannot be asked now is no end."""

    async def resident_bytes(self) -> int:
        """Memory in use; 0 when that cannot be known."""

    async def look(self) -> None:
        """Note what would be left behind if it were killed."""

    async def end(self, limit_seconds: float) -> None:
        """SIGTERM, SIGKILL after the limit; returns when nothing of it is left. Raises Problem 503."""


@dataclass(frozen=True)
class FoundEngine:
    """An engine that carries our mark; `leads` is false when only leavings of it are there."""

    instance_name: str
    epoch: int
    engine: Engine
    leads: bool
    port: int | None


class Runtime(Protocol):
    """One way to run engines."""

    async def equipped(self, kind: EngineKind, command: Sequence[str]) -> list[str]:
        """The planned command as this host can run it. Raises Problem 503 saying what is missing."""

    def port(self, wanted: int | None, taken: Collection[int]) -> int:
        """The wanted port where it is free, else another. Raises Problem 503."""

    def own_host(self, instance_name: str, *, alone: bool) -> str:
        """Where we reach an engine."""

    def public_host(self, instance_name: str, *, alone: bool) -> str:
        """Where everybody does."""

    async def prepare(self, order: Order, told: Told) -> None:
        """Fetch what a start needs and this host lacks; `told()` now and then. Raises Problem."""

    async def start(self, order: Order) -> Engine:
        """Raises OSError or Problem when it cannot be started."""

    async def found(self) -> list[FoundEngine]:
        """Every engine of ours, whatever records say. Raises Problem where that cannot be known."""

    async def close(self) -> None:
        """Let go of them; they go on."""
