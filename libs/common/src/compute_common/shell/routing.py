"""Routes that parse JSON strictly: malformed UTF-8, NaN and lone surrogates are refused, not passed on."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.routing import APIRoute

from compute_common import wire_json
from compute_common.shell.problems import PROBLEM_RESPONSES


class StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return wire_json.parse(await self.body())
        except ValueError as error:
            raise HTTPException(
                400, "the body is not JSON: plain UTF-8, no NaN, no lone surrogates"
            ) from error


class StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strict


def new_router(tag: str) -> APIRouter:
    """A router whose routes parse strictly and document their refusals."""
    return APIRouter(route_class=StrictRoute, tags=[tag], responses=PROBLEM_RESPONSES)


Limit = Annotated[int, Query(ge=1, le=1000, description="Items in one answer")]
Cursor = Annotated[str | None, Query(max_length=256, description="`next_cursor` of the answer before")]
