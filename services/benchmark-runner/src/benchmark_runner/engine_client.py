"""One OpenAI-compatible server: what it understands, and one timed, streamed completion."""

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from benchmark_runner.sse import Chunk, Events, GarbageError
from benchmark_runner.timing import RequestTiming

Prompt = str | list[int]
OVERRUN = 4  # a stream with this many times the chunks asked for is cut off


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, between two chunks (the first included), and for a whole request."""

    connect: float = 5.0
    idle: float = 60.0
    total: float = 600.0


@dataclass(slots=True)
class Dialect:
    """What the server takes; learned by asking."""

    tokenize: str | None = None  # "llama" or "vllm"
    ignore_eos: bool = True
    include_usage: bool = True


class EngineClient:
    """`base_url` ends in /v1. Redirects are not followed."""

    def __init__(self, base_url: str, model: str, patience: Patience, connections: int) -> None:
        self._base = base_url.rstrip("/")
        self._root = self._base.removesuffix("/v1")
        self._model = model
        self._patience = patience
        self.dialect = Dialect()
        timeout = httpx.Timeout(patience.idle, connect=patience.connect, pool=None)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def learn(self) -> None:
        """Find out whether it counts tokens; never raises."""
        for kind in ("llama", "vllm"):
            self.dialect.tokenize = kind
            if await self.tokens("one two three") is not None:
                return
        self.dialect.tokenize = None

    async def tokens(self, text: str) -> list[int] | None:
        """The token ids of `text`, or None where the server does not tell."""
        if self.dialect.tokenize is None:
            return None
        llama = {"content": text, "add_special": True}
        body = llama if self.dialect.tokenize == "llama" else {"model": self._model, "prompt": text}
        try:
            answer = await self._http.post(f"{self._root}/tokenize", json=body)
            found = answer.json()["tokens"] if answer.status_code == 200 else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, list) and all(isinstance(t, int) for t in found) and found else None

    async def complete(self, prompt: Prompt, output_tokens: int, due: float) -> RequestTiming:
        """Stream one completion; every failure becomes a named error in the timing, nothing is raised."""
        sent = time.perf_counter()
        stream = _Stream(output_tokens)
        try:
            async with asyncio.timeout(self._patience.total):
                error = await self._stream(self._body(prompt, output_tokens), stream)
        except TimeoutError:
            error = "timeout"
        except httpx.TimeoutException as timeout:
            error = "connect" if isinstance(timeout, httpx.ConnectTimeout) else "timeout"
        except httpx.ConnectError:
            error = "connect"
        except GarbageError:
            error = "garbage"
        except (httpx.HTTPError, httpx.InvalidURL):
            error = "broken"
        ended = time.perf_counter()
        return RequestTiming(
            due, sent, ended, tuple(stream.arrivals), stream.prompt_tokens, stream.output_tokens, error
        )

    async def _stream(self, body: dict[str, Any], stream: "_Stream") -> str | None:
        events = Events()
        async with self._http.stream("POST", f"{self._base}/completions", json=body) as answer:
            if answer.status_code != 200:
                return f"http-{answer.status_code}"
            async for data in answer.aiter_bytes():
                now = time.perf_counter()
                for chunk in events.feed(data):
                    if stream.take(chunk, now):
                        return "overrun" if stream.overrun else None
        return None if stream.finished else "ended-early"

    def _body(self, prompt: Prompt, output_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "stream": True,
        }
        if self.dialect.include_usage:
            body["stream_options"] = {"include_usage": True}
        if self.dialect.ignore_eos:
            body["ignore_eos"] = True
        if self.dialect.tokenize == "llama":
            body["cache_prompt"] = False
        return body


class _Stream:
    """What has arrived of one answer."""

    def __init__(self, output_tokens: int) -> None:
        self._limit = output_tokens * OVERRUN + 64
        self.arrivals: list[float] = []
        self.prompt_tokens: int | None = None
        self.output_tokens: int | None = None
        self.finished = False

    @property
    def overrun(self) -> bool:
        return len(self.arrivals) > self._limit

    def take(self, chunk: Chunk, now: float) -> bool:
        """Whether the stream is over."""
        if chunk.has_text:
            self.arrivals.append(now)
        self.finished = self.finished or chunk.finished or chunk.done
        if chunk.output_tokens is not None:
            self.prompt_tokens, self.output_tokens = chunk.prompt_tokens, chunk.output_tokens
        return chunk.done or self.overrun
