"""One HTTP/1.1 connection: bytes out, body parts in, each with the moment it was read. Nothing else."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

MAX_HEAD_BYTES = 65_536
MAX_CHUNK_LINE = 1024
MAX_WAITING_BYTES = 65_536
ENDS = (b"0\r\n\r\n", b"[DONE]\n\n", b"[DONE]\n\n\r\n")  # of what may be the last bytes of an answer
Sink = Callable[[bytes, float], bool]  # body bytes and their time; True when nothing more is wanted


class BrokenError(Exception):
    """The answer is not HTTP, or ended in its middle."""


class StaleError(Exception):
    """A kept connection was closed by the server before a byte of this answer came."""


class Connection(asyncio.Protocol):
    """Sends one request at a time. `last` is when bytes last moved, for whoever watches for silence."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None
        self._sink: Sink | None = None
        self._used = False
        self._patient = False
        self._received: list[tuple[float, bytes]] = []
        self._waiting = 0
        self._reset()

    def _reset(self) -> None:
        self._buffer = b""
        self._status = 0
        self._in_body = False
        self._chunked = False
        self._left: int | None = None  # of the body, or of the chunk; None: until the connection ends
        self._keep = True

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and self._answer is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, sink: Sink, *, patient: bool = False) -> "asyncio.Future[int]":
        """Write the request; the future gives the status when the answer is over or `sink` has enough.

        Patient, it parses when the answer may be over, when much has come, and when `catch_up` is called: a
        process that wakes up for one chunk of one stream finds its code and data gone from the caches.
        """
        if self._transport is None:
            raise BrokenError("not connected")
        self._reset()
        self._sink = sink
        self._patient = patient
        self.last = time.perf_counter()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        """End it at once, whatever is still under way."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        """Give the answer up."""
        self._finish(None, error)

    def settle(self) -> None:
        """Take what has come as the whole answer; the connection is not used again."""
        self._keep = False
        self._finish(self._status, None)

    # --- what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Only the stamp now: of many connections ready at once, parsing one would make the next late."""
        self.last = time.perf_counter()
        if self._patient and self._chunked and not data.endswith(ENDS):
            self._waiting += len(data)
            self._received.append((self.last, data))
            if self._waiting > MAX_WAITING_BYTES:
                self.catch_up()
            return
        if not self._received or self._patient:
            asyncio.get_running_loop().call_soon(self.catch_up)
        self._received.append((self.last, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.catch_up()
        if self._answer is None:
            return
        if self._in_body and not self._chunked and self._left is None:
            self._finish(self._status, None)
        elif self._used and not self._status and not self._buffer:
            self._finish(None, StaleError())
        else:
            self._finish(None, BrokenError("the connection ended in the middle of an answer"))

    def catch_up(self) -> None:
        """Parse what has come so far."""
        received, self._received, self._waiting = self._received, [], 0
        for now, data in received:
            self._take(data, now)

    # --- parts

    def _take(self, data: bytes, now: float) -> None:
        if self._answer is None:
            self.close()  # nobody asked for these bytes
            return
        self._buffer = self._buffer + data if self._buffer else data
        try:
            if not self._in_body and not self._head():
                return
            over = self._chunks(now) if self._chunked else self._plain(now)
        except (BrokenError, ValueError) as error:
            self._finish(None, error if isinstance(error, BrokenError) else BrokenError(str(error)))
            return
        if over:
            self._finish(self._status, None)

    def _head(self) -> bool:
        """Whether the head is whole; then the buffer holds what came after it."""
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BrokenError("a head without end")
            return False
        first, *lines = head.split(b"\r\n")
        parts = first.split(b" ", 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1."):
            raise BrokenError("not an HTTP answer")
        self._status = int(parts[1])
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (f.partition(b":") for f in lines)
        }
        self._keep = parts[0] == b"HTTP/1.1" and fields.get(b"connection", b"").lower() != b"close"
        self._chunked = fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
        length = fields.get(b"content-length")
        self._left = 0 if self._chunked else None if length is None else int(length)
        self._in_body, self._buffer = True, rest
        return True

    def _plain(self, now: float) -> bool:
        body, self._buffer = self._buffer, b""
        if self._left is not None:
            body = body[: self._left]
            self._left -= len(body)
        enough = bool(body) and self._sink is not None and self._sink(body, now)
        return enough or self._left == 0

    def _chunks(self, now: float) -> bool:
        """Cut whole chunks out of the buffer; their bytes go to the sink in one piece."""
        buffer, at, parts, over = self._buffer, 0, [], False
        while not over:
            line = buffer.find(b"\r\n", at)
            if line < 0:
                if len(buffer) - at > MAX_CHUNK_LINE:
                    raise BrokenError("a chunk without a size")
                break
            size = int(buffer[at:line].partition(b";")[0], 16)
            end = line + 2 + size
            if len(buffer) < end + 2:
                break
            over = size == 0
            parts.append(buffer[line + 2 : end])
            at = end + 2
        self._buffer = buffer[at:]
        body = b"".join(parts)
        enough = bool(body) and self._sink is not None and self._sink(body, now)
        if enough and not over:
            self._keep = False
        return over or enough

    def _finish(self, status: int | None, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        self._used = True
        if error is not None or not self._keep:
            self.close()
        if answer is None or answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(status or 0)
