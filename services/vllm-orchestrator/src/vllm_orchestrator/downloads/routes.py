"""`/api/v1/vllm/models/pull` and the NATS subjects of downloads."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query

from compute_common import subjects
from compute_common.bus import Message
from compute_common.ids import Identifier
from compute_common.shell.routing import new_router
from vllm_orchestrator.asking import ask_host
from vllm_orchestrator.downloads.schemas import PullList, PullRef, PullRequest, PullStatus

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

FORWARD_SECONDS = 60  # the Hub is asked before the answer
OnNode = Annotated[Identifier | None, Query(description="A pull of this node; the asked one's without it")]


def router(service: "VllmOrchestrator") -> APIRouter:
    """Start pulls and follow them, on whichever node."""
    r = new_router("vllm")

    async def there(node_id: str, body: Message) -> Message:
        return await ask_host(service.bus, "pull", node_id, body, FORWARD_SECONDS)

    @r.post("/api/v1/vllm/models/pull", response_model=PullStatus, status_code=202)
    async def pull(body: PullRequest) -> PullStatus:
        """Bring a model's files onto a node: from another node that has them, else from the Hub."""
        if body.node_id not in (None, service.node_id):
            ask = body.model_dump(exclude_none=True)
            return PullStatus.model_validate(await there(body.node_id or "", ask))
        return await service.pulls.begin(body)

    @r.get("/api/v1/vllm/models/pull", response_model=PullList)
    async def pulls(node_id: OnNode = None) -> PullList:
        """Pulls since the orchestrator started, oldest first."""
        if node_id not in (None, service.node_id):
            return PullList.model_validate(await there(node_id or "", {}))
        return _list(service)

    @r.get("/api/v1/vllm/models/pull/{pull_id}", response_model=PullStatus)
    async def progress(pull_id: Identifier, node_id: OnNode = None) -> PullStatus:
        """How far one pull is."""
        if node_id not in (None, service.node_id):
            return PullStatus.model_validate(await there(node_id or "", {"pull_id": pull_id}))
        return service.pulls.get(pull_id)

    @r.delete("/api/v1/vllm/models/pull/{pull_id}", response_model=PullStatus)
    async def cancel(pull_id: Identifier, node_id: OnNode = None) -> PullStatus:
        """Cancel a pull: what has come stays, so that pulling again goes on from there."""
        if node_id not in (None, service.node_id):
            ask = {"pull_id": pull_id, "cancel": True}
            return PullStatus.model_validate(await there(node_id or "", ask))
        return await service.pulls.cancel(pull_id)

    return r


async def serve(service: "VllmOrchestrator") -> None:
    """Answer other orchestrators: start and show pulls here, hand out files."""

    async def pull(body: Message) -> object:
        if "model_name" in body:
            return await service.pulls.begin(PullRequest.model_validate(body))
        ref = PullRef.model_validate(body)
        if ref.pull_id is None:
            return _list(service)
        return await service.pulls.cancel(ref.pull_id) if ref.cancel else service.pulls.get(ref.pull_id)

    await service.bus.serve(subjects.vllm_subject("pull", service.node_id), pull)
    await service.file_server.serve()
    if service.settings.nats_account == "shared":
        await service.file_server.serve_accounts()


def _list(service: "VllmOrchestrator") -> PullList:
    found = service.pulls.all()
    return PullList(pulls=found, count=len(found))
