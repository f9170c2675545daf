"""`/api/v1/session`: how a page of a service itself signs in; see `access.sessions`."""

from typing import Annotated
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from compute_common.access.keyring import KeyRing
from compute_common.access.sessions import COOKIE, SESSION_SECONDS, new_session
from compute_common.problems import Problem
from compute_common.shell.guard import MAX_TOKEN, SESSION_PATH
from compute_common.shell.routing import new_router
from compute_common.times import UtcTime, utc_now

log = structlog.get_logger("access")


class ShownKey(BaseModel):
    key: Annotated[str, Field(min_length=1, max_length=MAX_TOKEN, description="An API key of any scope")]


class SessionAnswer(BaseModel):
    key_required: bool = Field(description="False: nothing asks for a key here, and no cookie is set")
    expires_at: UtcTime | None = None


def session_router(ring: KeyRing) -> APIRouter:
    """The cookie goes to the services of this host only, not for another site, and to no script."""
    router = new_router("session")

    @router.post(SESSION_PATH, response_model=SessionAnswer)
    async def sign_in(shown: ShownKey, request: Request, response: Response) -> SessionAnswer:
        """Buy a cookie that reads, for a week, with a key."""
        _own_page(request)
        if not ring.required:
            return SessionAnswer(key_required=False)
        key = ring.find(shown.key.strip())
        if key is None:
            raise Problem(401, "unauthorized", "this is no key of this host; `compute keys` lists them")
        cookie, end = new_session(key, utc_now())
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        log.info("session opened", key_id=key.key_id)
        return SessionAnswer(key_required=True, expires_at=end)

    @router.delete(SESSION_PATH, status_code=204)
    async def sign_out(request: Request, response: Response) -> None:
        """Take the cookie back."""
        _own_page(request)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")

    return router


def _own_page(request: Request) -> None:
    """Another site's page must not sign a browser in or out; programs send no Origin."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower():
        return
    raise Problem(403, "cross-site", "only a page of this very service may sign in or out here")
