"""Frames of server-sent events: as the standard has them, and never silent for long."""

import asyncio

import pytest

from compute_common import event_frames
from compute_common.event_frames import KEEP_ALIVE, event_frame, next_frame


async def test_frames_come_in_order_until_the_end() -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    for frame in (event_frame("ready", b'{"n":1}'), event_frame("gone", b"{}"), None):
        queue.put_nowait(frame)
    assert await next_frame(queue) == b'event: ready\ndata: {"n":1}\n\n'
    assert await next_frame(queue) == b"event: gone\ndata: {}\n\n"
    assert await next_frame(queue) is None


async def test_silence_is_a_comment_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_frames, "KEEP_ALIVE_SECONDS", 0.001)
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    assert await next_frame(queue) == KEEP_ALIVE
    assert KEEP_ALIVE.startswith(b":"), "what clients pass over"
    queue.put_nowait(b"late")
    assert await next_frame(queue) == b"late"
