"""The door of a service: who may pass, how far, how often."""

import math
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from compute_common.access.api_keys import ApiKey, Scope
from compute_common.access.bucket import Bucket
from compute_common.access.keyring import KeyRing
from compute_common.access.scopes import SAFE_METHODS, needed_scope
from compute_common.access.sessions import COOKIE
from compute_common.problems import Problem

SESSION_PATH = "/api/v1/session"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/", SESSION_PATH})
_OWN_PAGES: frozenset[str | None] = frozenset(
    {None, "same-origin", "none"}
)  # None: browsers tell it over TLS and to loopback only
MAX_TOKEN = 512
log = structlog.get_logger("access")


class Guard:
    """`requests_per_s` is for keys that name no rate of their own; 0 is no limit."""

    def __init__(
        self, ring: KeyRing, requests_per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ring = ring
        self._requests_per_s = requests_per_s
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def refusal(self, method: str, path: str, headers: Headers) -> Problem | None:
        """None when the request may pass: 401 without a valid key, 403 beyond its scope, 429 too soon."""
        if path in OPEN_PATHS or not self.ring.required:
            return None
        token = shown_token(headers)
        key = self.ring.find(token) if token else self._session(method, headers)
        if key is None:
            return _unauthorized()
        needed = needed_scope(method, path)
        if not key.scope.covers(needed):
            return _beyond(key, needed)
        refusal = self._too_soon(key)
        if refusal is None and needed is Scope.ADMIN:  # what operators do is written down
            log.info("admin request", key_id=key.key_id, method=method, path=path[:300])
        return refusal

    def _session(self, method: str, headers: Headers) -> ApiKey | None:
        """A browser's cookie: good for reading, from our own pages."""
        if method not in SAFE_METHODS or "cookie" not in headers:
            return None
        if headers.get("sec-fetch-site") not in _OWN_PAGES:
            return None
        return self.ring.find_session(cookie_parser(headers["cookie"]).get(COOKIE, ""))

    def _too_soon(self, key: ApiKey) -> Problem | None:
        rate = key.requests_per_s or self._requests_per_s
        if not rate:
            return None
        now = self._clock()
        bucket = self._buckets.get(key.key_id)
        if bucket is None or bucket.per_s != rate:
            bucket = self._buckets[key.key_id] = Bucket.full(rate, now)
        wait = bucket.take(now)
        if not wait:
            return None
        detail = f"this key may ask {rate:g} times a second; wait, or have an operator raise its rate"
        return Problem(
            429, "too-many-requests", detail, headers={"Retry-After": str(max(1, math.ceil(wait)))}
        )


def shown_token(headers: Headers) -> str:
    """`Authorization: Bearer …`, else `X-API-Key`; empty for neither."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return given if len(given) <= MAX_TOKEN else ""


def _unauthorized() -> Problem:
    return Problem(
        401,
        "unauthorized",
        "send the API key as 'Authorization: Bearer …' or 'X-API-Key'",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _beyond(key: ApiKey, needed: Scope) -> Problem:
    return Problem(
        403,
        "scope-too-small",
        f"the key '{key.key_id}' has the scope {key.scope.value}; this request needs {needed.value}",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed.value}"'},
    )
