"""The NATS subjects of this service."""

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING

from compute_common import subjects
from compute_common.bus import Message
from compute_common.problems import Problem
from compute_common.schemas.node import Reannounce
from compute_common.schemas.vllm import DeployRequest, InstanceEvent, NodeInstances
from vllm_orchestrator.instances.planner import Berth
from vllm_orchestrator.schemas import AttachOrder, InstanceRef, RankOrder, RankRef, StartOrder, StatusAsk
from vllm_orchestrator.streams import log_tail

if TYPE_CHECKING:
    from vllm_orchestrator.service import VllmOrchestrator

QUEUE = "vllm-orchestrator"
LOOK_AFTER_SECONDS = 0.2


async def serve(service: "VllmOrchestrator") -> None:
    """Answer deployments for the cluster and start, stop, status for this host; follow everybody's events."""
    bus, node_id = service.bus, service.node_id

    async def request(body: Message) -> object:
        _code, answer = await service.groups.deploy(DeployRequest.model_validate(body))
        return answer

    async def event(body: Message) -> None:
        service.table.observe(InstanceEvent.model_validate(body))

    looking: set[asyncio.Task[None]] = set()

    async def look() -> None:
        await asyncio.sleep(LOOK_AFTER_SECONDS)
        with suppress(Problem):
            await service.table.refresh()

    async def event_itself(_subject: str, _body: Message) -> None:
        """Of a host with an account of its own: that something changed. What it is says the bucket alone."""
        if not looking:
            task = asyncio.create_task(look(), name="records that changed")
            looking.add(task)
            task.add_done_callback(looking.discard)

    async def reannounce(body: Message) -> None:
        asked = Reannounce.model_validate(body)
        if not asked.concerns(node_id):
            return
        await asyncio.sleep(random.uniform(0, asked.spread_seconds))  # noqa: S311  (spread, not secrecy)
        await service.announcer.repeat()

    await bus.serve(subjects.VLLM_REQUEST, request, QUEUE)
    await _serve_host(service)
    await bus.subscribe(subjects.VLLM_INSTANCE, event)
    await bus.subscribe_family("compute.node.*.instance", event_itself)
    await bus.subscribe(subjects.NODES_REANNOUNCE, reannounce)
    await bus.subscribe(subjects.GPU_STATE, service.yields.on_event)


async def _serve_host(service: "VllmOrchestrator") -> None:
    """What other orchestrators and the node program ask of this host: instances, and parts of instances."""
    bus, node_id, desk = service.bus, service.node_id, service.desk

    async def start(body: Message) -> object:
        if "rank" in body:
            return await service.parts.start(RankOrder.model_validate(body["rank"]))
        if "attach" in body:
            return await service.attachments.attach(AttachOrder.model_validate(body).here(node_id))
        if "deploy" in body:
            order = StartOrder.model_validate(body)
            berth = Berth(node_id, tuple(order.among), tuple(order.avoid), order.replica_of)
            _code, answer = await desk.deploy(order.deploy, berth)
            return answer
        name = InstanceRef.model_validate(body).instance_name
        await service.table.fetch(name)  # it may have been given to this host this moment
        return await desk.start(name)

    async def stop(body: Message) -> object:
        if "rank" in body:
            return await service.parts.stop(RankRef.model_validate(body["rank"]))
        ref = InstanceRef.model_validate(body)
        return await desk.stop(ref.instance_name, remove=ref.remove)

    async def status(body: Message) -> object:
        if "rank" in body:
            return await service.parts.state(RankRef.model_validate(body["rank"]))
        ask = StatusAsk.model_validate(body)
        if ask.instance_name is not None and ask.log_lines:
            desk.require(ask.instance_name)
            name, lines, offset = ask.instance_name, ask.log_lines, ask.log_offset
            return await asyncio.to_thread(log_tail, service, name, lines=lines, offset=offset)
        own = [] if ask.equipment_only else service.table.own()
        wanted = [each.public() for each in own if ask.instance_name in (None, each.instance_name)]
        local, engines = await asyncio.to_thread(service.equipment)
        return NodeInstances(node_id=node_id, instances=wanted, local_models=local, engines=engines)

    await bus.serve(subjects.vllm_subject("start", node_id), start)
    await bus.serve(subjects.vllm_subject("stop", node_id), stop)
    await bus.serve(subjects.vllm_subject("status", node_id), status)
