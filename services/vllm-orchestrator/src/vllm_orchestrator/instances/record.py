"""`Record`: an instance as it is kept, and what follows from a request alone."""

import re
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from compute_common.ids import is_identifier
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.vllm import DeployRequest, Instance
from vllm_orchestrator.engines.process import EngineProcess
from vllm_orchestrator.models.profile import ModelProfile

LONGEST_ERROR = 4000
_NOT_PART_OF_WHAT_RUNS = {"request_id", "dry_run", "auto_start", "instance_name"}


class RankPart(Wire):
    """What one further host of an instance runs."""

    node_id: str
    arguments: list[str]
    environment: dict[str, str] = {}


class Record(Instance):
    """The `Instance` of the wire and what the orchestrator needs to run it again."""

    desired: Literal["ready", "stopped", "removed"] = "ready"
    set_aside: bool = Field(False, description="Stopped for the host's owner; it comes back by itself")
    request: JsonObject = {}
    reservation_key: str | None = Field(None, description="Asked with; kept before the ledgers are asked")
    reservations: dict[str, str] = Field({}, description="Node id → reservation id")
    runtime: Literal["process", "docker"] = "process"
    pid: int | None = None
    start_time: float | None = None
    container_id: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    port: int | None = None
    ranks: list[RankPart] = Field([], description="Ranks 1 and up of a layout over several hosts")
    environment: dict[str, str] = Field({}, description="What the engine gets beside our own environment")

    @property
    def process(self) -> EngineProcess | None:
        if self.pid is None or self.start_time is None:
            return None
        return EngineProcess(self.pid, self.start_time)

    @property
    def has_engine(self) -> bool:
        return self.pid is not None or self.container_id is not None

    def held_by(self, holder: Mapping[str, object]) -> None:
        """Note what runs for it: `pid` and `start_time`, `container_id`, or nothing."""
        known = {"pid": None, "start_time": None, "container_id": None, **holder}
        for name, value in known.items():
            setattr(self, name, value)

    def went_wrong(self, reason: str, at: datetime) -> None:
        """Note why; it stays there when the instance is ready again."""
        self.last_error, self.last_error_at = reason[:LONGEST_ERROR], at

    def public(self) -> Instance:
        """What other programs see."""
        return Instance.model_validate(self.model_dump())


def request_of(request: DeployRequest) -> dict[str, Any]:
    """The part of a request that says what runs: two requests are the same when these are equal."""
    return request.model_dump(mode="json", exclude_none=True, exclude=_NOT_PART_OF_WHAT_RUNS)


def default_name(model_name: str, taken: Container[str]) -> str:
    """The last path part in lower case, other characters `-`; `-2`, `-3` when taken."""
    base = re.sub(r"[^a-z0-9._-]+", "-", model_name.rpartition("/")[2].lower()).strip("-._")[:100]
    base = base if is_identifier(base) else "instance"
    number = 2
    name = base
    while name in taken:
        name = f"{base}-{number}"
        number += 1
    return name


def replica_name(name: str, number: int) -> str:
    """The name of a further replica; an identifier as `name` is."""
    suffix = f"-r{number}"
    return name[: 128 - len(suffix)] + suffix


def served_names(
    instance_name: str, model_name: str, profile: ModelProfile | None, replica_of: str | None = None
) -> list[str]:
    """Every name an instance answers to, its own first, without repeats."""
    known = (profile.name, *profile.aliases) if profile else ()
    names = (instance_name, replica_of or instance_name, model_name, *known)
    return _unlike(name for each in names for name in (each, each.rpartition("/")[2]))


def _unlike(names: Iterable[str]) -> list[str]:
    seen: dict[str, None] = {}
    for name in names:
        if name:
            seen.setdefault(name)
    return list(seen)
