"""`/v1/models`, chat, completions, embeddings."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from compute_common.shell.routing import new_router
from vllm_orchestrator.gateway.forward import Gateway
from vllm_orchestrator.schemas import GatewayModel, GatewayModels, GatewayRequest

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The engine's own answer",
        "content": {"application/json": {"schema": {}}, "text/event-stream": {"schema": {"type": "string"}}},
    }
}
ModelId = Annotated[str, Path(max_length=256, description="One of /v1/models")]


def router(service: "VllmOrchestrator") -> APIRouter:
    """The routes of one gateway."""
    r = new_router("openai")
    gateway = Gateway(service)

    @r.get("/v1/models", response_model=GatewayModels)
    async def models() -> GatewayModels:
        """Every name that an instance answers to."""
        return gateway.models()

    @r.get("/v1/models/{model:path}", response_model=GatewayModel)
    async def model(model: ModelId) -> GatewayModel:
        """One of them."""
        return gateway.model(model)

    @r.post("/v1/chat/completions", response_class=Response, responses=_ANSWERS)
    async def chat(body: GatewayRequest, request: Request) -> Response:
        """OpenAI chat completions, of the least busy ready instance that serves `model`."""
        return await gateway.forward("chat/completions", body, request.receive)

    @r.post("/v1/completions", response_class=Response, responses=_ANSWERS)
    async def completions(body: GatewayRequest, request: Request) -> Response:
        """OpenAI completions."""
        return await gateway.forward("completions", body, request.receive)

    @r.post("/v1/embeddings", response_class=Response, responses=_ANSWERS)
    async def embeddings(body: GatewayRequest, request: Request) -> Response:
        """OpenAI embeddings."""
        return await gateway.forward("embeddings", body, request.receive)

    return r
