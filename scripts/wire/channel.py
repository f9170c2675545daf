"""One NATS subject as the documents tell it."""

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

Kind = Literal["message", "event", "request"]
Record = type[BaseModel] | None


@dataclass(frozen=True)
class Channel:
    """One subject; `{node}` in it is a node id as a token (`.` written `=2E`)."""

    subject: str
    kind: Kind
    speaker: str
    listener: str
    record: Record
    means: str
    answer: Record = None
    internal: bool = False
