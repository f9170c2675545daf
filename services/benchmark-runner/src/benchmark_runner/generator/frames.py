"""Messages between the service and its generator: a length of four bytes, then JSON."""

import asyncio
import json
from typing import Any

MAX_FRAME_BYTES = 256 << 20


def packed(message: dict[str, Any]) -> bytes:
    data = json.dumps(message, separators=(",", ":")).encode()
    return len(data).to_bytes(4, "big") + data


async def read(stream: asyncio.StreamReader) -> dict[str, Any]:
    """The next message; asyncio.IncompleteReadError when the other side has gone."""
    length = int.from_bytes(await stream.readexactly(4), "big")
    if length > MAX_FRAME_BYTES:
        raise ValueError("a message that is too long")
    message: dict[str, Any] = json.loads(await stream.readexactly(length))
    return message
