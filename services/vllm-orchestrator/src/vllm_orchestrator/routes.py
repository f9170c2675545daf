"""`/api/v1/vllm`: plan, deploy, look at and end instances."""

import asyncio
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from compute_common.enums import InstanceStatus, Strategy
from compute_common.ids import Identifier
from compute_common.problems import invalid
from compute_common.schemas.vllm import (
    AttachRequest,
    DeployAnswer,
    DeployRequest,
    Instance,
    InstanceList,
    PlanAnswer,
    PlanRequest,
    StopAnswer,
)
from compute_common.shell.routing import Cursor, Limit, new_router
from vllm_orchestrator.asking import ask_host
from vllm_orchestrator.schemas import LogTail, ModelList, StrategyEntry, StrategyList
from vllm_orchestrator.streams import log_tail

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

LOG_SECONDS = 5
_STRATEGIES = {
    Strategy.SINGLE_GPU: ("One GPU, no parallelism", "Models fitting in single GPU VRAM"),
    Strategy.TENSOR_PARALLEL: ("Split across GPUs", "Large models, high throughput"),
    Strategy.PIPELINE_PARALLEL: ("Sequential GPU stages", "Very large models"),
    Strategy.HYBRID_TP_PP: ("Combined TP + PP", "Largest models (70B+)"),
    Strategy.CPU: ("llama.cpp on RAM", "GGUF models on hosts without a GPU"),
}


def router(service: "VllmOrchestrator") -> APIRouter:
    r = new_router("vllm")
    _deploying(r, service)
    _looking(r, service)
    _ending(r, service)
    return r


def _deploying(r: APIRouter, service: "VllmOrchestrator") -> None:
    @r.post(
        "/api/v1/vllm/deploy",
        response_model=DeployAnswer,
        status_code=202,
        responses={200: {"model": DeployAnswer, "description": "It already runs, or a dry run"}},
    )
    async def deploy(body: DeployRequest, response: Response) -> DeployAnswer:
        """Plan, reserve and start a model; 409 with the shortfall and what would fit when it does not."""
        response.status_code, answer = await service.groups.deploy(body)
        return answer

    @r.post("/api/v1/vllm/plan", response_model=PlanAnswer)
    async def plan(body: PlanRequest) -> PlanAnswer:
        """What would be deployed where, on the cluster of now or on an `inventory` of your own."""
        return await service.planner.what_if(body)

    @r.post("/api/v1/vllm/attach", response_model=Instance, status_code=201)
    async def attach(body: AttachRequest) -> Instance:
        """Take in an OpenAI-compatible server that already runs: routed to, never stopped."""
        return await service.attachments.attach(body)

    @r.post("/api/v1/vllm/instances/{instance_name}/start", response_model=Instance, status_code=202)
    async def start(instance_name: Identifier) -> Instance:
        """Start a planned, stopped or failed instance."""
        return await service.groups.start(instance_name)


def _looking(r: APIRouter, service: "VllmOrchestrator") -> None:
    @r.get("/api/v1/vllm/instances", response_model=InstanceList)
    async def instances(
        status: Annotated[InstanceStatus | None, Query(description="Only these")] = None,
        node_id: Annotated[Identifier | None, Query()] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> InstanceList:
        """Every instance of the cluster, by name."""
        found = [
            record
            for record in service.table.all()
            if (status is None or record.status is status)
            and (node_id is None or record.node_id == node_id)
            and (cursor is None or record.instance_name > cursor)
        ]
        page = found[:limit]
        more = page[-1].instance_name if len(found) > limit else None
        return InstanceList(instances=[record.public() for record in page], count=len(page), next_cursor=more)

    @r.get("/api/v1/vllm/instances/{instance_name}", response_model=Instance)
    async def instance(instance_name: Identifier) -> Instance:
        """One instance, with its progress while it starts and its last error."""
        return (await service.desk.find(instance_name)).public()

    @r.get("/api/v1/vllm/instances/{instance_name}/logs", response_model=LogTail)
    async def logs(
        instance_name: Identifier,
        lines: Annotated[int, Query(ge=1, le=2000)] = 200,
        node_id: Annotated[Identifier | None, Query(description="That host's part")] = None,
    ) -> LogTail:
        """The end of the engine's log, from whichever host it runs on."""
        where = node_id or service.desk.require(instance_name).node_id
        if where is not None and where != service.node_id:
            ask = {"instance_name": instance_name, "log_lines": lines}
            return LogTail.model_validate(await ask_host(service.bus, "status", where, ask, LOG_SECONDS))
        return await asyncio.to_thread(log_tail, service, instance_name, lines=lines)

    @r.get(
        "/api/v1/vllm/instances/{instance_name}/compose",
        response_class=Response,
        responses={200: {"content": {"application/yaml": {"schema": {"type": "string"}}}}},
    )
    async def compose(instance_name: Identifier) -> Response:
        """A compose file that starts the same thing by hand."""
        record = service.desk.require(instance_name)
        if not record.docker_compose:
            raise invalid("an attached server has no compose file", cause="attached")
        import yaml  # noqa: PLC0415  (a megabyte that most hosts never use)

        text = yaml.safe_dump(record.docker_compose, sort_keys=False)
        return Response(text, media_type="application/yaml")

    @r.get("/api/v1/vllm/models", response_model=ModelList)
    async def models(fits: Annotated[bool, Query(description="Also plan each, now")] = False) -> ModelList:
        """Models a name alone can deploy: those on this host, then the catalogue."""
        return await service.planner.models(fits)

    @r.get("/api/v1/vllm/strategies", response_model=StrategyList)
    async def strategies() -> StrategyList:
        """How a model may be spread, and the words accepted for it."""
        aliases = Strategy._aliases()
        entries = [
            StrategyEntry(
                strategy=strategy.value,
                description=description,
                use_case=use_case,
                aliases=[alias for alias, meaning in aliases.items() if meaning == strategy.value],
            )
            for strategy, (description, use_case) in _STRATEGIES.items()
        ]
        return StrategyList(strategies=entries, count=len(entries))


def _ending(r: APIRouter, service: "VllmOrchestrator") -> None:
    @r.post("/api/v1/vllm/instances/{instance_name}/stop", response_model=StopAnswer)
    async def stop(instance_name: Identifier) -> StopAnswer:
        """End the engine, give its memory back, keep the record."""
        return await service.groups.stop(instance_name, remove=False)

    @r.delete("/api/v1/vllm/instances/{instance_name}", response_model=StopAnswer)
    async def delete(instance_name: Identifier) -> StopAnswer:
        """End the engine and forget the instance; an attached server is only forgotten."""
        return await service.groups.stop(instance_name, remove=True)
