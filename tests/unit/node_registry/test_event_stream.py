"""The event stream's places."""

from collections.abc import AsyncIterator

import pytest

from compute_common.problems import Problem
from node_registry import event_stream
from node_registry.event_stream import EventStream


async def first(frames: AsyncIterator[bytes]) -> bytes:
    return await anext(frames)


async def test_a_client_that_is_gone_before_its_first_frame_keeps_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream, "MOST_LISTENERS", 1)
    stream = EventStream()
    for _ in range(3):
        stream.listen()  # and nobody reads it
    frames = stream.listen()
    assert await first(frames) == b": listening\n\n"
    stream.publish("joined", b"{}")
    assert b"event: joined" in await first(frames)
    with pytest.raises(Problem) as refused:
        stream.listen()
    assert refused.value.status == 503
    await frames.aclose()  # type: ignore[attr-defined]
    stream.listen()
