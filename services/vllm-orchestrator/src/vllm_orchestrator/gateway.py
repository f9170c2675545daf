"""The OpenAI-compatible gateway: forwards to the least busy ready replica, streaming or not."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import APIRouter
from starlette.responses import StreamingResponse

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, not_found, unavailable
from compute_common.shell.routing import new_router
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.schemas import GatewayModel, GatewayModels, GatewayRequest

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

TIMEOUT = httpx.Timeout(600, connect=3)
MAX_ERROR_BYTES = 64 << 10
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The engine's own answer",
        "content": {"application/json": {"schema": {}}, "text/event-stream": {"schema": {"type": "string"}}},
    }
}


def router(service: "VllmOrchestrator") -> APIRouter:
    """`/v1/models`, chat, completions, embeddings."""
    r = new_router("openai")
    gateway = Gateway(service)

    @r.get("/v1/models", response_model=GatewayModels)
    async def models() -> GatewayModels:
        """Every name that a ready instance answers to."""
        return gateway.models()

    @r.post("/v1/chat/completions", response_class=StreamingResponse, responses=_ANSWERS)
    async def chat(body: GatewayRequest) -> StreamingResponse:
        """OpenAI chat completions, of the least busy ready instance that serves `model`."""
        return await gateway.forward("chat/completions", body)

    @r.post("/v1/completions", response_class=StreamingResponse, responses=_ANSWERS)
    async def completions(body: GatewayRequest) -> StreamingResponse:
        """OpenAI completions."""
        return await gateway.forward("completions", body)

    @r.post("/v1/embeddings", response_class=StreamingResponse, responses=_ANSWERS)
    async def embeddings(body: GatewayRequest) -> StreamingResponse:
        """OpenAI embeddings."""
        return await gateway.forward("embeddings", body)

    return r


class Gateway:
    """Counts what is under way per instance; a replica that dies before its first byte costs nothing."""

    def __init__(self, service: "VllmOrchestrator") -> None:
        self._service = service
        self._under_way: Counter[str] = Counter()

    def models(self) -> GatewayModels:
        found: dict[str, GatewayModel] = {}
        for record in self._ready():
            for name in record.served_names:
                created = int(record.created_at.timestamp())
                found.setdefault(name, GatewayModel(id=name, created=created, owned_by=record.engine.value))
        return GatewayModels(data=list(found.values()))

    async def forward(self, path: str, request: GatewayRequest) -> StreamingResponse:
        """The answer of the first replica, least busy first, that sends one."""
        replicas = self._replicas(request.model)
        for record in [*replicas, *replicas]:  # twice: an engine may have closed a kept connection meanwhile
            name = record.instance_name
            body = request.model_dump() | {"model": record.config["model"] if record.attached else name}
            url = f"{record.endpoints.api}/{path}"
            self._under_way[name] += 1
            try:
                upstream = self._service.client.build_request("POST", url, json=body, timeout=TIMEOUT)
                answer = await self._service.client.send(upstream, stream=True)
            except httpx.TransportError:
                self._done(name)
                continue
            except BaseException:
                self._done(name)
                raise
            if answer.status_code >= 400:
                raise await self._refused(name, answer)
            kind = answer.headers.get("content-type", "application/json")
            return StreamingResponse(self._body(name, answer), answer.status_code, media_type=kind)
        raise unavailable(
            "no-replica", f"none of the {len(replicas)} ready instance(s) of this model answers; try again"
        )

    def _ready(self) -> list[Record]:
        return [record for record in self._service.table.all() if record.status is InstanceStatus.READY]

    def _replicas(self, model: str) -> list[Record]:
        wanted = model.lower()
        found = [
            record
            for record in self._ready()
            if record.endpoints.api and any(name.lower() == wanted for name in record.served_names)
        ]
        if not found:
            raise not_found(
                "no-ready-instance", f"no ready instance serves '{model}'; deploy it, or see /v1/models"
            )
        return sorted(found, key=lambda record: self._under_way[record.instance_name])

    async def _body(self, name: str, answer: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_bytes():
                yield chunk
        finally:
            self._done(name)
            await answer.aclose()

    async def _refused(self, name: str, answer: httpx.Response) -> Problem:
        """The engine's refusal as a problem, in its own words where it has some."""
        try:
            await answer.aread()
            body = answer.json() if len(answer.content) <= MAX_ERROR_BYTES else {}
            error = body.get("error", body) if isinstance(body, dict) else {}
            said = error.get("message") if isinstance(error, dict) else error
        except (httpx.HTTPError, ValueError):
            said = None
        finally:
            self._done(name)
            await answer.aclose()
        detail = str(said)[:2000] if said else f"the engine answered {answer.status_code}"
        return Problem(answer.status_code, "engine-refused", detail)

    def _done(self, name: str) -> None:
        self._under_way[name] -= 1
        if self._under_way[name] <= 0:
            del self._under_way[name]
