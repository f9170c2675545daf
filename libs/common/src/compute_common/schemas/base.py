"""The base of every record on the wire."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Mib = Annotated[int, Field(ge=0, le=1 << 40)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=10 * 365 * 86400)]
Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(max_length=512)]
Labels = Annotated[
    dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=512)]], Field(max_length=64)
]
JsonObject = dict[str, Any]


class Wire(BaseModel):
    """Unknown fields are ignored inbound; infinities and NaN are refused."""

    model_config = ConfigDict(
        extra="ignore",
        populate_by_name=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class Page(Wire):
    """What every list answer carries beside its items."""

    count: int = Field(description="Items in this answer", ge=0)
    next_cursor: str | None = Field(None, description="Pass as `cursor` for the next page")
