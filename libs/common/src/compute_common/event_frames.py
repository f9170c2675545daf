"""Server-sent events as bytes, and the wait for the next one of a listener's queue."""

import asyncio

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"  # a comment: clients pass over it, proxies see that the stream lives


def event_frame(kind: str, data: bytes) -> bytes:
    """One event; `data` is one line."""
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


async def next_frame(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    """What the queue holds next, None for the end of the stream; a comment when nothing comes for a while."""
    try:
        return await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
    except TimeoutError:
        return KEEP_ALIVE
