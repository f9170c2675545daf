"""An engine's answer on its way to the client; whichever side goes away, the other is let go."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from compute_common.tasks import end_tasks

log = structlog.get_logger("gateway")

EVENT_STREAM = "text/event-stream"
CLIENT_GONE = 499  # nobody reads it; the metrics show it


class Relay(Response):
    """Streams `first` and then `rest`; `gone` ends when the client has left."""

    def __init__(
        self,
        answer: httpx.Response,
        first: bytes,
        rest: AsyncIterator[bytes],
        *,
        instance: str,
        end: Callable[[], None],
    ) -> None:
        kind = answer.headers.get("content-type", "application/json")
        super().__init__(status_code=answer.status_code, media_type=kind)
        del self.headers["content-length"]
        self.headers["X-Compute-Instance"] = instance
        self._events = kind.startswith(EVENT_STREAM)
        if self._events:  # proxies in between would hold tokens back
            self.headers["Cache-Control"] = "no-cache"
            self.headers["X-Accel-Buffering"] = "no"
        self._answer = answer
        self._first = first
        self._rest = rest
        self._instance = instance
        self._end = end
        self.gone: asyncio.Task[None] | None = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        gone = self.gone or asyncio.create_task(disconnected(receive))
        pump = asyncio.create_task(self._pump(send))
        try:
            await asyncio.wait({gone, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks([gone, pump])
            await self.drop()
        if not pump.cancelled() and (error := pump.exception()) is not None:
            raise error

    async def drop(self) -> None:
        """Let go of the engine; it sees its client leave and stops generating."""
        self._end()
        await self._answer.aclose()

    async def _pump(self, send: Send) -> None:
        start: dict[str, Any] = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        try:
            async for chunk in self._rest:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except httpx.TransportError as error:
            log.warning("engine cut off its answer", instance=self._instance, reason=type(error).__name__)
            if not self._events:
                return  # unfinished: the server closes the connection, and the client knows
            await send({"type": "http.response.body", "body": self._broken(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _broken(self) -> bytes:
        """The last event of a stream whose engine died, as OpenAI's clients understand it."""
        message = f"the engine of instance '{self._instance}' ended before its answer was whole"
        error = {"message": message, "type": "engine_error", "code": "engine-died", "param": None}
        return f"\n\ndata: {json.dumps({'error': error})}\n\n".encode()


async def disconnected(receive: Receive) -> None:
    """Return when the client has left. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
