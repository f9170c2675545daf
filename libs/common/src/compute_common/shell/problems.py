"""Every error an HTTP client can see, as problem+json."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from compute_common import wire_json
from compute_common.problems import Problem, invalid

MEDIA_TYPE = "application/problem+json"
OPENAI_PATHS = "/v1/"
_CAUSES = {
    400: "malformed-request",
    404: "not-found",
    405: "method-not-allowed",
    408: "body-too-slow",
    413: "body-too-large",
    415: "unsupported-media-type",
}
log = structlog.get_logger("http")


class OpenAiError(BaseModel):
    """What clients of OpenAI's API read of a refusal."""

    message: str
    type: str
    code: str
    param: str | None = None


class ProblemDocument(BaseModel):
    """RFC 9457, with `error` and `error_id` for older clients; under /v1 `error` is OpenAI's object."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(examples=["urn:compute:error:unknown-node"])
    title: str
    status: int
    detail: str = Field(description="What is wrong and what to do")
    instance: str | None = None
    errors: list[dict[str, Any]] | None = None
    error: str | OpenAiError
    error_id: str


_CONTENT = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused; nothing changed", "content": _CONTENT},
    "5XX": {"description": "Not possible now", "content": _CONTENT},
}


def problem_response(problem: Problem, path: str) -> Response:
    """The HTTP answer of a `Problem`."""
    document = problem.document(instance=path[:500])
    if path.startswith(OPENAI_PATHS):
        error = OpenAiError(message=problem.detail, type=problem.title, code=problem.cause)
        document["error"] = error.model_dump()
    return Response(wire_json.dump(document), problem.status, media_type=MEDIA_TYPE, headers=problem.headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Turn refusals, validation errors, routing errors and crashes into problem+json."""

    @app.exception_handler(Problem)
    async def refused(request: Request, error: Problem) -> Response:
        return problem_response(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def wrong_fields(request: Request, error: RequestValidationError) -> Response:
        found = [
            {"field": ".".join(str(part) for part in item["loc"])[:200], "message": str(item["msg"])[:300]}
            for item in error.errors()[:20]
        ]
        summary = "; ".join(f"{item['field']}: {item['message']}" for item in found[:3])
        return problem_response(
            invalid(f"the request is not valid: {summary}", errors=found), request.url.path
        )

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        cause = _CAUSES.get(error.status_code, "http-error")
        problem = Problem(error.status_code, cause, str(error.detail), headers=dict(error.headers or {}))
        return problem_response(problem, request.url.path)

    @app.exception_handler(Exception)
    async def crashed(request: Request, error: Exception) -> Response:
        log.error("request failed", path=request.url.path, exc_info=error)
        problem = Problem(500, "internal", "the service failed on this request; its log says why")
        return problem_response(problem, request.url.path)
