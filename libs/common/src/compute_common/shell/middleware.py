"""Around every request: an id, a clock, the key, bounds on size and time, headers for browsers."""

import asyncio
import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute_common import tracing
from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.shell.browsers import cross_site, harden
from compute_common.shell.guard import Guard
from compute_common.shell.metrics import Metrics
from compute_common.shell.patience import Bounds, bounded, too_large, too_long
from compute_common.shell.problems import problem_response

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class ShellMiddleware:
    """Request id and timing outside, then the key, then the body limit, then the application."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        guard: Guard,
        bounds: Bounds,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._guard = guard
        self._bounds = bounds
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
                harden(message, cors=bool(self._origins))
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, send_with_id)
            else:
                with tracing.span(lambda: f"{_method(scope)} {_route(scope)}", headers, "server"):
                    await self._answered(scope, receive, send_with_id)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
            self._metrics.observe_request(
                _method(scope), _route(scope), status, time.perf_counter() - started
            )

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's answer, or 504 where it has not begun in time; a stream may then go on."""
        begun = False
        try:
            async with asyncio.timeout_at(self._bounds.answer_deadline(scope["path"])) as limit:

                async def send_and_relax(message: Message) -> None:
                    nonlocal begun
                    if not begun:
                        begun = True
                        limit.reschedule(None)
                    await send(message)

                await self._app(scope, bounded(receive, self._bounds), send_and_relax)
        except TimeoutError:
            if begun or not limit.expired():
                raise
            await problem_response(too_long(self._bounds), scope["path"])(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        path, method = scope["path"], scope["method"]
        if self._guard.ring.required:
            problem = self._guard.refusal(method, path, headers)
        else:
            problem = cross_site(method, headers.get("host", ""), headers.get("origin"), self._origins)
        problem = problem or self._wrong_length(headers.get("content-length", "0"))
        return problem_response(problem, path) if problem else None

    def _wrong_length(self, length: str) -> Problem | None:
        if not length.isascii() or not length.isdigit():
            return Problem(400, "malformed-request", "Content-Length must be a number")
        return too_large(self._bounds) if int(length[:20]) > self._bounds.body_bytes else None


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else new_id("req")


def _route(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "unmatched"))


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"
