"""Plans as answers and records of the wire."""

import ipaddress
from dataclasses import replace
from datetime import datetime
from typing import Any

from compute_common.enums import EngineKind, InstanceStatus
from compute_common.ids import new_id
from compute_common.problems import Problem, conflict
from compute_common.schemas.vllm import (
    DeployAnswer,
    DeployRequest,
    MemoryEstimate,
    Placement,
    PlanAnswer,
    RejectedLayout,
    StartProgress,
)
from vllm_orchestrator.instances.endpoints import endpoints_of
from vllm_orchestrator.instances.record import RankPart, Record, request_of, served_names
from vllm_orchestrator.planning.result import NoFit, Plan, Wish, to_mib
from vllm_orchestrator.rendering.argv import Serving, engine_argv, engine_environment
from vllm_orchestrator.rendering.compose import compose_document
from vllm_orchestrator.rendering.platforms import image_of
from vllm_orchestrator.settings import Settings


def wish_of(request: DeployRequest) -> Wish:
    """What the request asks of the planner."""
    return Wish(
        max_model_len=request.max_model_len,
        max_num_seqs=request.max_num_seqs,
        max_batched_tokens=request.max_num_batched_tokens,
        quantization=request.quantization,
        dtype=request.dtype,
        kv_cache_dtype=request.kv_cache_dtype,
        enforce_eager=bool(request.enforce_eager),
        gpu_memory_utilization=request.gpu_memory_utilization,
        node_id=request.node_id,
        gpu_indices=tuple(request.gpu_indices) if request.gpu_indices is not None else None,
        strategy=request.strategy,
        tp=request.tensor_parallel_size,
        pp=request.pipeline_parallel_size,
        engine=request.engine,
        engine_version=request.engine_version,
        backend=request.distributed_executor_backend,
    )


def record_of(
    plan: Plan,
    request: DeployRequest,
    name: str,
    settings: Settings,
    at: datetime,
    *,
    replica_of: str | None = None,
) -> Record:
    """A planned instance: how it will be started, and a compose file for the same thing."""
    names = served_names(name, request.model_name, plan.profile, replica_of)
    port = settings.port_range.start
    image = image_of(plan, settings.vllm_docker_image, settings.llama_docker_image)
    serving = Serving(names, plan.profile.location, settings.engine_bind, port)
    memory = plan.memory
    estimate = MemoryEstimate(
        weights_mb=to_mib(memory.weights),
        kv_cache_mb=to_mib(plan.kv_cache_bytes),
        activations_mb=to_mib(memory.activations),
        overhead_mb=to_mib(memory.overhead),
        total_mb=plan.total_mb,
        kv_cache_tokens=plan.kv_cache_tokens,
        source=plan.profile.source,
    )
    return Record(
        instance_name=name,
        instance_id=name,
        model_name=request.model_name,
        status=InstanceStatus.PLANNED,
        engine=plan.engine,
        strategy=plan.strategy,
        tensor_parallel_size=plan.tp,
        pipeline_parallel_size=plan.pp,
        placement=[
            Placement(
                node_id=place.node_id, gpu_indices=list(place.gpu_indices), reserved_mb=place.reserved_mb
            )
            for place in plan.places
        ],
        memory=estimate,
        config=config_of(plan),
        docker_compose=compose_document(plan, name, serving, image=image),
        command=engine_argv(plan, serving),
        endpoints=endpoints_of(settings.advertise_host, port),
        tensorzero_url=settings.tensorzero_url or None,
        explanation=plan.explanation,
        request_id=request.request_id,
        served_names=names,
        node_id=plan.places[0].node_id,
        owner=request.owner,
        replica_of=replica_of,
        idle_timeout_seconds=request.idle_timeout_seconds or None,
        created_at=at,
        desired="stopped",
        request=request_of(request),
        environment=_environment(plan, 0),
        ranks=[
            RankPart(
                node_id=place.node_id,
                arguments=engine_argv(plan, serving, rank=rank)[1:],
                environment=_environment(plan, rank),
            )
            for rank, place in enumerate(plan.places)
            if rank
        ],
    )


def _environment(plan: Plan, rank: int) -> dict[str, str]:
    """Of one host: its own cards, and with several hosts the address at which the others find it."""
    place = plan.places[rank]
    found = engine_environment(replace(plan, places=(place,)))
    if len(plan.places) == 1 or not _is_address(place.address):
        return found
    return {**found, "VLLM_HOST_IP": place.address}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def begin(record: Record) -> None:
    """It is to run: from here on a restart of its orchestrator goes on with it."""
    record.desired = "ready"
    record.status = InstanceStatus.STARTING
    record.progress = StartProgress(phase="reserving", percent=0)
    record.reservation_key = new_id("engine")


def config_of(plan: Plan) -> dict[str, Any]:
    """The engine settings that the plan chose."""
    config: dict[str, Any] = {
        "max_model_len": plan.max_model_len,
        "max_num_seqs": plan.max_num_seqs,
        "model": plan.profile.location,
        "quantization": plan.profile.quantization,
        "dtype": plan.wish.dtype or plan.dtype or plan.profile.dtype,
    }
    if plan.engine is EngineKind.LLAMA_CPP:
        return config | {"threads": plan.threads}
    return config | {
        "gpu_memory_utilization": plan.utilization,
        "max_num_batched_tokens": plan.max_batched_tokens,
        "kv_cache_dtype": plan.wish.kv_cache_dtype or "auto",
        "expert_parallel": plan.expert_parallel,
        "expected_tokens_per_s": plan.tokens_per_s,
        "enforce_eager": plan.wish.enforce_eager,
    }


def plan_answer(found: Plan | NoFit, record: Record | None) -> PlanAnswer:
    """The what-if answer: the plan or the shortfall, and every layout that was refused."""
    rejected = [RejectedLayout(layout=each.layout, reason=each.reason) for each in found.rejected]
    if isinstance(found, NoFit):
        return PlanAnswer(
            fits=False,
            explanation=found.reason,
            shortfall=found.shortfall,
            alternatives=list(found.alternatives),
            rejected=rejected,
        )
    plan = DeployAnswer.model_validate(record.model_dump()) if record else None
    return PlanAnswer(
        fits=True,
        plan=plan,
        explanation=found.explanation,
        alternatives=list(found.alternatives),
        rejected=rejected,
    )


def refusal(found: NoFit) -> Problem:
    """The 409 of a deployment that does not fit."""
    would = "; ".join(str(option["change"]) for option in found.alternatives)
    detail = f"{found.reason}. What would fit: {would}" if would else found.reason
    return conflict(
        "no-fit",
        detail[:4000],
        shortfall=found.shortfall,
        alternatives=list(found.alternatives),
        rejected=[{"layout": each.layout, "reason": each.reason} for each in found.rejected],
    )
