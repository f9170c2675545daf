"""Around every request: an id, a clock, the API key, a bound on the body."""

import hmac
import re
import time

import structlog
from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.shell.metrics import Metrics
from compute_common.shell.problems import problem_response

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


class ShellMiddleware:
    """Request id and timing outside, then the key, then the body limit, then the application."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, api_key: SecretStr | None, max_body_bytes: int
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._api_key = api_key.get_secret_value() if api_key else None
        self._max_body_bytes = max_body_bytes

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
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is not None:
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, self._bounded(receive), send_with_id)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.observe_request(_method(scope), route, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._authorised(scope["path"], headers):
            problem = Problem(
                401,
                "unauthorized",
                "send the API key as 'Authorization: Bearer …' or 'X-API-Key'",
                headers={"WWW-Authenticate": "Bearer"},
            )
            return problem_response(problem, scope["path"])
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem_response(
                Problem(400, "malformed-request", "Content-Length must be a number"), scope["path"]
            )
        if int(length) > self._max_body_bytes:
            return problem_response(self._too_large(), scope["path"])
        return None

    def _authorised(self, path: str, headers: Headers) -> bool:
        if self._api_key is None or path in OPEN_PATHS:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return hmac.compare_digest(given.encode(), self._api_key.encode())

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that refuses a body growing beyond the limit, whatever its headers said."""
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._max_body_bytes:
                    raise HTTPException(413, self._too_large().detail)
            return message

        return bounded

    def _too_large(self) -> Problem:
        return Problem(
            413, "body-too-large", f"the body exceeds {self._max_body_bytes} bytes; send less at a time"
        )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else new_id("req")


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
    return scope["method"] if scope["method"] in known else "OTHER"
