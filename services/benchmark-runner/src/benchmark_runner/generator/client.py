"""One OpenAI-compatible server: kept connections, and one timed, streamed completion at a time on each."""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from benchmark_runner.generator.dialect import Dialect, Prompt
from benchmark_runner.generator.heartbeat import Heartbeat
from benchmark_runner.generator.http import BrokenError, Connection, Sink, StaleError
from benchmark_runner.generator.patience import Patience
from benchmark_runner.sse import Chunk, Events, GarbageError
from benchmark_runner.timing import RequestTiming, http_error

OVERRUN = 4  # a stream with this many times the chunks asked for is cut off
FEW_STREAMS = 8  # up to so many, parsing waits: of more, one process parses what it finds ready anyway
LINGER_SECONDS = 0.5  # for the end of an answer that has said it is done
MAX_PLAIN_BYTES = 64 << 20
T = TypeVar("T")


class EngineClient:
    """`base_url` ends in /v1; its host is at `addresses`, and is resolved where none are known.

    `key` is its API key. Redirects are not followed, proxies not asked.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        patience: Patience,
        addresses: Sequence[str] = (),
        *,
        key: str | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        self._prefix = parts.path.rstrip("/")
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._addresses = addresses or (self._host,)
        self._authority = parts.netloc
        self._shown = f"Authorization: Bearer {key}\r\n" if key else ""
        self._model = model
        self._patience = patience
        self._idle: list[Connection] = []
        self._under_way: dict[Connection, _Stream] = {}
        self.heartbeat = Heartbeat(self._look)
        self.dialect = Dialect()

    async def close(self) -> None:
        self.heartbeat.stop()
        for connection in (*self._idle, *self._under_way):
            connection.close()

    async def connect_ahead(self, count: int) -> None:
        """Have `count` connections open, so that no measured request pays for one; failures show later."""
        missing = count - sum(connection.usable for connection in self._idle)
        with contextlib.suppress(OSError, TimeoutError):
            self._idle += await asyncio.gather(*(self._connect() for _ in range(max(0, missing))))

    def prepare(self, prompt: Prompt, output_tokens: int) -> bytes:
        """The bytes of a request, made before its time comes."""
        path = self._prefix + self.dialect.path
        return self._request(path, self.dialect.body(self._model, prompt, output_tokens))

    async def complete(self, prompt: Prompt, output_tokens: int) -> RequestTiming:
        return await self.stream(self.prepare(prompt, output_tokens), output_tokens, time.perf_counter())

    async def stream(self, request: bytes, output_tokens: int, due: float) -> RequestTiming:
        """Send a prepared request now; every failure becomes a named error, nothing is raised."""
        sent = time.perf_counter()
        stream = _Stream(output_tokens, sent)
        error: str | None = None
        try:
            status = await self._exchange(request, stream.take, stream)
            error = stream.verdict(status)
        except TimeoutError:
            error = "timeout"
        except (ConnectionError, OSError, _ConnectError):
            error = "connect"
        except GarbageError:
            error = "garbage"
        except (BrokenError, StaleError):
            error = stream.after_cut()
        ended = time.perf_counter()
        arrivals = tuple(stream.arrivals)
        return RequestTiming(due, sent, ended, arrivals, stream.prompt_tokens, stream.output_tokens, error)

    async def tokens(self, text: str) -> list[int] | None:
        """The token ids of `text`, or None where the server does not tell."""
        if self.dialect.tokenize is None:
            return None
        llama = {"content": text, "add_special": True}
        body = llama if self.dialect.tokenize == "llama" else {"model": self._model, "prompt": text}
        answer = await self.ask(f"{self._prefix.removesuffix('/v1')}/tokenize", json.dumps(body).encode())
        found = answer.get("tokens") if isinstance(answer, dict) else None
        return found if isinstance(found, list) and all(isinstance(t, int) for t in found) and found else None

    async def ask(self, path: str, body: bytes | None = None) -> object:
        """The JSON at `path` (a POST with a body); None for any failure."""
        received = bytearray()

        def take(part: bytes, _now: float) -> bool:
            received.extend(part)
            return len(received) > MAX_PLAIN_BYTES

        try:
            status = await self._exchange(self._request(path, body), take, _Stream(0, time.perf_counter()))
            return json.loads(received) if status == 200 else None
        except (OSError, TimeoutError, ValueError, RecursionError, BrokenError, StaleError, _ConnectError):
            return None

    # --- parts

    def _request(self, path: str, body: bytes | None) -> bytes:
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {self._authority}\r\n"
        head += f"Accept: text/event-stream, application/json\r\n{self._shown}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + (body or b"")

    async def _exchange(self, request: bytes, sink: Sink, stream: "_Stream") -> int:
        """One request on a kept connection, or once more on a new one where the server had closed it."""
        for fresh in (False, True):
            connection = None if fresh else self._kept()
            reused = connection is not None
            connection = connection or await self._connect()
            self._under_way[connection] = stream
            try:
                few = len(self._under_way) <= FEW_STREAMS
                status = await connection.send(request, sink, patient=few)
            except StaleError:
                if not reused:
                    raise
                continue
            except asyncio.CancelledError:
                connection.close()
                raise
            finally:
                self._under_way.pop(connection, None)
            if connection.usable:
                self._idle.append(connection)
            return status
        raise BrokenError("the server closes every connection")

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._tls else None
        name = self._host if self._tls else None
        for address in self._addresses:
            opening = loop.create_connection(
                Connection, address, self._port, ssl=context, server_hostname=name
            )
            try:
                _transport, connection = await _within(self._patience.connect, opening)
            except (OSError, TimeoutError) as error:
                last: Exception = error
            else:
                return connection
        raise _ConnectError from last

    def _look(self, now: float) -> None:
        """One look at all answers every so often costs less than a timer for each chunk."""
        for connection, stream in list(self._under_way.items()):
            connection.catch_up()
            silent = now - connection.last
            if stream.done and silent > LINGER_SECONDS:
                connection.settle()
            elif silent > self._patience.idle or now - stream.sent > self._patience.total:
                connection.fail(TimeoutError())


class _ConnectError(Exception):
    """Nobody answers there."""


async def _within(seconds: float, work: Awaitable[T]) -> T:
    async with asyncio.timeout(seconds):
        return await work


class _Stream:
    """What has arrived of one answer."""

    def __init__(self, output_tokens: int, sent: float) -> None:
        self._limit = output_tokens * OVERRUN + 64
        self._events = Events()
        self._garbage = False
        self.sent = sent
        self.arrivals: list[float] = []
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.finished = False
        self.done = False

    def take(self, part: bytes, now: float) -> bool:
        """Whether nothing more is wanted."""
        try:
            for chunk in self._events.feed(part):
                self._take(chunk, now)
        except GarbageError:
            self._garbage = True
        return self._garbage or self._overrun

    def verdict(self, status: int) -> str | None:
        """The error of an answer that is over, or None."""
        if status != 200:
            return http_error(status)
        if self._garbage:
            return "garbage"
        if self._overrun:
            return "overrun"
        return None if self.finished else "ended-early"

    def after_cut(self) -> str | None:
        return None if self.done else "broken"

    @property
    def _overrun(self) -> bool:
        return len(self.arrivals) > self._limit

    def _take(self, chunk: Chunk, now: float) -> None:
        if chunk.has_text:
            self.arrivals.append(now)
        self.finished = self.finished or chunk.finished or chunk.done
        self.done = self.done or chunk.done
        if chunk.output_tokens is not None:
            self.prompt_tokens, self.output_tokens = chunk.prompt_tokens, chunk.output_tokens
