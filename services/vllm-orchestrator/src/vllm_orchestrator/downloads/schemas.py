"""Pulls on the wire."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from compute_common.ids import Identifier
from compute_common.schemas.base import Page, Wire
from compute_common.schemas.vllm import ModelName
from compute_common.times import UtcTime


class PullPhase(StrEnum):
    DOWNLOADING = "downloading"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PullRequest(Wire):
    """A model to bring onto a node's disk."""

    model_name: ModelName
    node_id: Identifier | None = Field(None, description="Onto this node; the asked one without it")
    revision: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = Field(
        None, description="A branch, tag or commit of the Hub; the files then come from there"
    )
    quantization: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | None = Field(
        None, description="Of a GGUF model, e.g. Q4_K_M", examples=["Q4_K_M"]
    )


class PullStatus(Wire):
    """A pull; `bytes_done` counts what was there before, too."""

    pull_id: str
    model_name: str
    node_id: str
    phase: PullPhase
    source: str = Field(description="`hub`, `node:<id>`, or `here` when nothing had to come")
    bytes_done: int = 0
    bytes_total: int = 0
    path: str | None = Field(None, description="Where the model lies, once it is whole")
    error: str | None = None
    started_at: UtcTime
    ended_at: UtcTime | None = None


class PullList(Page):
    pulls: list[PullStatus]


class PullRef(Wire):
    """`compute.vllm.pull.v1.<node_id>` without a model: how a pull there goes; with `cancel` its end."""

    pull_id: Identifier | None = None
    cancel: bool = False
