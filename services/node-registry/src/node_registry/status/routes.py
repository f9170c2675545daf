"""The status page and what it reads."""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from compute_common.shell.routing import new_router
from node_registry.status.feed import Feed
from node_registry.status.models import Overview
from node_registry.status.page import status_page


def status_router(feed: Feed) -> APIRouter:
    router = new_router("status")
    page = status_page()

    @router.get("/", response_class=HTMLResponse)
    async def shell() -> HTMLResponse:
        """The status page; it holds no data, so it asks for no key."""
        return HTMLResponse(page.body, headers=page.headers)

    @router.get("/api/v1/overview", response_model=Overview)
    async def overview() -> Response:
        """Nodes, GPUs, instances, queue and warnings in one document; who does not answer is named in it."""
        return Response((await feed.now()).whole(), media_type="application/json")

    @router.get(
        "/api/v1/overview/events",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "Events: `overview` is the whole document; `changes` (once a second "
                "at most) has those of `hosts` that changed, the ids that are `gone`, and all else whole",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def events() -> StreamingResponse:
        """Follow the overview; 503 where too many follow already."""
        return StreamingResponse(
            await feed.listen(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    return router
