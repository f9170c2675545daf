"""The generator's own HTTP reading: however the bytes are cut, the same answer."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark_runner.generator.http import BrokenError, Connection, StaleError

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=1\r\n, world\r\n0\r\n\r\n"
SIZED = b"HTTP/1.1 404 No\r\ncontent-length: 12\r\n\r\nhello, world"
BARE = b"HTTP/1.0 200 OK\r\n\r\nhello, world"


class Wire(asyncio.Transport):
    """Takes what is sent, and notes a close."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def exchange(parts: list[bytes], *, ends: bool = False) -> tuple[int, bytes, bool]:
    connection, body = Connection(), bytearray()
    connection.connection_made(Wire())

    def take(part: bytes, _now: float) -> bool:
        body.extend(part)
        return False

    answer = connection.send(b"GET", take)
    for part in parts:
        connection.data_received(part)
        await asyncio.sleep(0)
    if ends:
        connection.connection_lost(None)
    status = await asyncio.wait_for(answer, 1)
    return status, bytes(body), connection.usable


@given(st.sampled_from([CHUNKED, SIZED, BARE]), st.lists(st.integers(1, 100), max_size=30))
def test_any_cut_gives_the_same_answer(whole: bytes, cuts: list[int]) -> None:
    edges = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    parts = [whole[a:b] for a, b in pairwise(edges)]
    status, body, usable = asyncio.run(exchange(parts, ends=whole is BARE))
    assert (status, body) == (404 if whole is SIZED else 200, b"hello, world")
    assert usable is (whole is not BARE)


@pytest.mark.parametrize(
    "bad",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000,
    ],
)
async def test_what_is_no_http_is_broken(bad: bytes) -> None:
    with pytest.raises(BrokenError):
        await exchange([bad])


async def test_a_kept_connection_that_was_closed_is_told_from_a_broken_one() -> None:
    connection = Connection()
    connection.connection_made(Wire())
    first = connection.send(b"GET", lambda _part, _now: False)
    connection.data_received(SIZED)
    assert await asyncio.wait_for(first, 1) == 404
    second = connection.send(b"GET", lambda _part, _now: False)
    connection.connection_lost(None)
    with pytest.raises(StaleError):
        await second
