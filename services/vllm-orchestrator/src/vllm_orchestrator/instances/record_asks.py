"""`compute.vllm.instances.v1`: what a host with an account of its own asks of the records, and is told."""

from typing import Annotated, Literal

from pydantic import Field

from compute_common.ids import Identifier
from compute_common.schemas.base import Wire
from vllm_orchestrator.instances.record import Record

Revision = Annotated[int, Field(ge=0, le=1 << 62)]


class Ask(Wire):
    """`put` with `last` None creates; else it writes after that revision."""

    verb: Literal["list", "get", "put", "delete"]
    name: Identifier | None = None
    record: Record | None = None
    last: Revision | None = None


class Found(Wire):
    record: Record | None = None
    revision: int = 0


class Listing(Wire):
    records: list[Found]


class Kept(Wire):
    """`revision` None: somebody wrote in between."""

    revision: int | None
