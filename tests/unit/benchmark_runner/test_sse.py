"""Events cut out of bytes, however they arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_runner.sse import MAX_LINE_BYTES, Chunk, Events, GarbageError, chunk

STREAM = (
    b': comment\n\ndata: {"choices":[{"text":"a","finish_reason":null}]}\r\n\r\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
)
WHOLE = [Chunk(has_text=True), Chunk(prompt_tokens=3, output_tokens=1), Chunk(done=True)]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=20))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    events = Events()
    found = [c for a, b in pairwise(edges) for c in events.feed(STREAM[a:b])]
    assert found == WHOLE


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"\xff", b'{"error":{"message":"x"}}'])
def test_garbage_is_named(payload: bytes) -> None:
    with pytest.raises(GarbageError):
        chunk(payload)


@pytest.mark.parametrize(
    "payload", [b"{}", b'{"choices":7}', b'{"choices":[7],"usage":7}', b'{"usage":{"completion_tokens":-1}}']
)
def test_odd_but_harmless_events_carry_nothing(payload: bytes) -> None:
    assert chunk(payload) in (Chunk(), Chunk(finished=False))


def test_a_line_without_end_is_cut_off() -> None:
    with pytest.raises(GarbageError):
        Events().feed(b"x" * (MAX_LINE_BYTES + 1))
