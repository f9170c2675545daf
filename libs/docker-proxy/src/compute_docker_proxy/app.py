"""The proxy as an ASGI application: read, judge, ask anew, answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import structlog
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from compute_common.engine_containers import container_of, create_body
from compute_common.problems import Problem
from compute_docker_proxy.doors import Passage, passage
from compute_docker_proxy.grants import Grants
from compute_docker_proxy.upstream import Docker

MAX_BODY_BYTES = 256 << 10
SPEAKER = {"X-Compute-Docker-Proxy": "1"}  # tells us from Docker itself
log = structlog.get_logger("docker-proxy")


class DockerProxy:
    """Nothing of a request reaches Docker but what was read out of it and found allowed."""

    def __init__(self, docker: Docker, grants: Grants) -> None:
        self._docker = docker
        self._grants = grants

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(scope, receive)
        except Problem as problem:
            log.warning("refused", method=scope["method"], path=scope["path"][:200], reason=problem.detail)
            response = _problem(problem)
        except httpx.HTTPError as error:
            log.warning("docker does not answer", error=type(error).__name__)
            response = _problem(Problem(503, "docker-unreachable", "the Docker Engine does not answer"))
        await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        headers = Headers(scope=scope)
        if "upgrade" in headers or "upgrade" in headers.get("connection", "").lower():
            raise _forbidden("connections are not handed over")
        if "transfer-encoding" in headers:
            raise _forbidden("a body tells its length")
        try:
            wanted = passage(scope["method"], scope["raw_path"], scope["query_string"])
        except ValueError as error:
            raise _forbidden(str(error)) from error
        body = await _body(receive)
        match wanted.door.action:
            case "create":
                return await self._create(wanted, body)
            case "image" | "pull":
                return await self._image(wanted, body)
            case _:
                return await self._plain(wanted, body)

    async def _create(self, wanted: Passage, body: bytes) -> Response:
        try:
            container = container_of(json.loads(body))
        except (ValueError, RecursionError) as error:
            raise _forbidden(str(error)) from error
        name = wanted.query.get("name", "")
        if (reason := self._grants.refusal(container, name)) is not None:
            raise _forbidden(reason)
        log.info("container made", instance=container.instance_name, template=container.template.value)
        return await self._pass(wanted, {"name": name}, create_body(container))

    async def _image(self, wanted: Passage, body: bytes) -> Response:
        _empty(body)
        image = next(iter(wanted.query.values()), "")
        if image not in self._grants.images.values():
            raise _forbidden("the image is not one of this host's engines")
        if wanted.door.action == "image":
            answer = await self._docker.ask("GET", f"/images/{image}/json", {})
            return Response(b"{}", answer.status_code, SPEAKER, "application/json")
        return await self._pass(wanted, wanted.query)

    async def _plain(self, wanted: Passage, body: bytes) -> Response:
        _empty(body)
        if wanted.container is not None:
            ours = await self._docker.is_ours(wanted.container)
            if ours is None:
                raise Problem(404, "no-such-container", "there is no such container")
            if not ours:
                raise _forbidden("this container is not an engine of ours")
        answer = await self._pass(wanted, wanted.query)
        if wanted.container is not None and wanted.door.action == "remove" and answer.status_code == 204:
            self._docker.forget(wanted.container)
        return answer

    async def _pass(self, wanted: Passage, query: Any, body: Any = None) -> Response:
        door = wanted.door
        answer = await self._docker.ask(door.method, wanted.asked, dict(query), body, streams=door.streams)
        kind = answer.headers.get("content-type")
        if not door.streams:
            return Response(answer.content, answer.status_code, SPEAKER, kind)
        return StreamingResponse(
            _read(answer), answer.status_code, SPEAKER, kind, background=BackgroundTask(answer.aclose)
        )


async def _read(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.HTTPError:
        return  # Docker went away: the reader asks again
    finally:
        await answer.aclose()


async def _body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "malformed-request", "the request did not end")
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise Problem(413, "body-too-large", f"the body exceeds {MAX_BODY_BYTES} bytes")
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _empty(body: bytes) -> None:
    if body:
        raise _forbidden("this request has no body")


def _forbidden(reason: str) -> Problem:
    return Problem(403, "forbidden", reason[:500])


def _problem(problem: Problem) -> Response:
    kind = "application/problem+json"
    return JSONResponse(problem.document(), problem.status, SPEAKER, kind)
