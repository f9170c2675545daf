"""Server-sent events of one instance: how far it has come, and what its engine says."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from compute_common import wire_json
from compute_common.event_frames import KEEP_ALIVE, KEEP_ALIVE_SECONDS, event_frame
from compute_common.ids import Identifier
from compute_common.problems import Problem
from compute_common.shell.routing import new_router
from vllm_orchestrator.asking import ask_host
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.schemas import LogTail

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

LOOK_SECONDS = 0.25
LOG_SECONDS = 0.5
REMOTE_SECONDS = 5
_ANSWER = {
    "description": "Server-sent events",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def router(service: "VllmOrchestrator") -> APIRouter:
    """`…/instances/{name}/events` and `…/logs/events`."""
    r = new_router("vllm")
    streams = Streams(service)

    @r.get(
        "/api/v1/vllm/instances/{instance_name}/events",
        response_class=StreamingResponse,
        responses={200: _ANSWER},
    )
    async def events(instance_name: Identifier) -> StreamingResponse:
        """`progress` while it starts, the status at each change, `removed`; `data` is the instance."""
        await service.desk.find(instance_name)
        return _stream(streams.instance(instance_name))

    @r.get(
        "/api/v1/vllm/instances/{instance_name}/logs/events",
        response_class=StreamingResponse,
        responses={200: _ANSWER},
    )
    async def logs(
        instance_name: Identifier,
        lines: Annotated[int, Query(ge=1, le=2000)] = 200,
        node_id: Annotated[Identifier | None, Query(description="That host's part")] = None,
    ) -> StreamingResponse:
        """The engine's log and what is added to it, from whichever host; each `data` is one line as JSON."""
        await service.desk.find(instance_name)
        return _stream(streams.log(instance_name, lines, node_id))

    return r


class Streams:
    """Each ends with its instance, or when the service or the client does."""

    def __init__(self, service: "VllmOrchestrator") -> None:
        self._service = service

    async def instance(self, name: str) -> AsyncIterator[bytes]:
        """The record whenever it changed."""
        said: object = None
        status: object = None
        beat = _Beat()
        while not self._service.leaving:
            record = self._service.table.get(name)
            if record is None:
                yield _event("removed", {"instance_name": name})
                return
            shown = _shown(record)
            if shown != said:
                kind = "progress" if record.status is status else record.status.value
                said, status = shown, record.status
                yield _event(kind, record.public().model_dump(mode="json"))
            elif beat.due():
                yield KEEP_ALIVE
            await asyncio.sleep(LOOK_SECONDS)

    async def log(self, name: str, lines: int = 200, node_id: str | None = None) -> AsyncIterator[bytes]:
        """Lines as they come."""
        offset: int | None = None
        beat = _Beat()
        while not self._service.leaving and (record := self._service.table.get(name)) is not None:
            try:
                tail = await self._tail(name, node_id or record.node_id, lines, offset)
            except Problem as problem:
                yield _event("problem", problem.document())
                return
            offset = tail.next_offset
            for line in tail.lines:
                yield b"data: " + wire_json.dump(line) + b"\n\n"
            if not tail.lines and beat.due():
                yield KEEP_ALIVE
            await asyncio.sleep(LOG_SECONDS)

    async def _tail(self, name: str, node_id: str | None, lines: int, offset: int | None) -> LogTail:
        service = self._service
        if node_id is None or node_id == service.node_id:
            return await asyncio.to_thread(log_tail, service, name, lines=lines, offset=offset)
        ask = {"instance_name": name, "log_lines": lines, "log_offset": offset}
        return LogTail.model_validate(await ask_host(service.bus, "status", node_id, ask, REMOTE_SECONDS))


def log_tail(
    service: "VllmOrchestrator", name: str, *, lines: int = 200, offset: int | None = None
) -> LogTail:
    """The last lines of an engine's log here, or what was added since `offset`."""
    found, after = service.files.tail(name, lines), service.files.size(name)
    if offset is not None:
        found, after = service.files.since(name, offset)
    return LogTail(instance_name=name, node_id=service.node_id, lines=found, next_offset=after)


class _Beat:
    def __init__(self) -> None:
        self._next = time.monotonic() + KEEP_ALIVE_SECONDS

    def due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + KEEP_ALIVE_SECONDS
        return True


def _shown(record: Record) -> tuple[object, ...]:
    progress = record.progress.model_dump() if record.progress else None
    return record.status, progress, record.last_error, record.node_id, record.epoch, record.restarts


def _event(kind: str, data: object) -> bytes:
    return event_frame(kind, wire_json.dump(data))


def _stream(body: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)
