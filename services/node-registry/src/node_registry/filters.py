"""The filter over nodes as query parameters."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from compute_common.enums import NodeStatus, Platform, Tier
from compute_common.schemas.base import Count, Mib, Name, Wire
from compute_common.schemas.node import NodeQuery

Gigabytes = Annotated[float, Field(ge=0, le=1e6)]
LabelPair = Annotated[
    str, Field(pattern=r"^[^=]{1,128}=[\s\S]{0,512}$", description="`key=value`", examples=["room=a"])
]


class NodeFilter(Wire):
    """A filter in the query string; the fields of a query's body, labels as `label=key=value`."""

    requires_gpu: bool = False
    tier: Tier | None = None
    min_tier: Tier | None = None
    min_vram_gb: Gigabytes | None = None
    min_total_vram_gb: Gigabytes | None = None
    min_gpu_count: Count | None = None
    min_cpu: Count | None = None
    min_ram_mb: Mib | None = None
    model: Name | None = None
    work_type: Name | None = None
    platform: Platform | None = None
    label: Annotated[list[LabelPair], Field(max_length=64)] = []
    status: NodeStatus | None = None
    online_only: bool = True
    include_draining: bool = False
    limit: Annotated[int, Field(ge=1, le=100_000)] | None = None

    def query(self, **more: Any) -> NodeQuery:
        """The same as a query."""
        fields = self.model_dump(exclude={"label"})
        return NodeQuery(**{**fields, "labels": labels(self.label), **more})


class ListFilter(NodeFilter):
    """The filter of the list: every node whatever its status, page by page."""

    online_only: bool = False
    include_draining: bool = True
    limit: Annotated[int, Field(ge=1, le=1000, description="Items in one answer")] = 100
    cursor: Annotated[str, Field(max_length=256)] | None = Field(
        None, description="`next_cursor` of the answer before"
    )


def labels(pairs: Sequence[str]) -> dict[str, str] | None:
    """`key=value` pairs as labels; None without any."""
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        found[key] = value
    return found or None
