"""A host's check-up and its programs' logs, as they are asked for and answered."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from compute_common.schemas.base import Name, Text, Wire
from compute_common.times import UtcTime

MOST_LINES = 2000


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Finding(Wire):
    """One check: what was found, and what to do where it is not well."""

    check: Name = Field(description="What was looked at, e.g. `docker` or `port 8115`")
    level: Level
    found: Text
    fix: Text | None = Field(None, description="One thing to do; null where all is well")


class Checkup(Wire):
    """`compute.host.checkup.v1.<node_id>` and `GET /api/v1/checkup`: one host, looked at now."""

    node_id: Name
    at: UtcTime = Field(description="By that host's clock")
    worst: Level
    findings: Annotated[list[Finding], Field(max_length=256)]
    v: int = 1


class LogAsk(Wire):
    """`compute.host.log.v1.<node_id>`: the end of a program's log, or what was added since an offset."""

    program: str = Field(pattern=r"^[a-z][a-z0-9-]{0,63}$", examples=["work-marshaling", "nats"])
    lines: Annotated[int, Field(ge=1, le=MOST_LINES)] = 200
    offset: Annotated[int, Field(ge=0, le=1 << 53)] | None = Field(
        None, description="`next_offset` of an earlier answer"
    )


class ProgramLog(Wire):
    node_id: Name
    program: Name
    lines: list[str] = Field(description="Whole lines, at most 256 KiB of them")
    next_offset: int = Field(description="Ask with it as `offset` for what is added later")
    v: int = 1
