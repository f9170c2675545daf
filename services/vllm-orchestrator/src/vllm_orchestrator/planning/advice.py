"""On no fit: what would fit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.gpu import plan_gpu
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.memory import counted_parameters
from vllm_orchestrator.planning.result import Plan, Wish, to_mib

CARDS = (("24 GB", 24_564), ("48 GB", 46_068), ("80 GB", 81_559), ("141 GB", 143_771))
COUNTS = (1, 2, 4, 8)
GGUF_BYTES_PER_PARAMETER = 0.6  # a Q4_K_M file


def what_would_fit(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> tuple[dict[str, Any], ...]:
    """Changes to the request that fit these hosts, then hardware that would do, then a GGUF in RAM."""
    found: list[dict[str, Any]] = []
    free = replace(wish, tp=None, pp=None, strategy=None)
    for change, other in (("4-bit weights (an AWQ or GPTQ variant)", replace(free, quantization="awq")),):
        if profile.quantization is None:
            found.extend(_described(change, profile, hosts, other))
    if wish.max_model_len is not None:
        found.extend(_described("a shorter context", profile, hosts, replace(wish, max_model_len=None)))
    if wish.tp or wish.pp or wish.strategy:
        found.extend(_described("another layout", profile, hosts, free))
    found.extend(_hardware(profile, replace(free, node_id=None)))
    found.extend(_gguf(profile, hosts))
    return tuple(found)


def _described(change: str, profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> list[dict[str, Any]]:
    plan = plan_gpu(profile, hosts, wish)
    if not isinstance(plan, Plan):
        return []
    return [
        {
            "change": change,
            "strategy": plan.strategy.value,
            "tensor_parallel_size": plan.tp,
            "pipeline_parallel_size": plan.pp,
            "max_model_len": plan.max_model_len,
            "explanation": plan.explanation,
        }
    ]


def _hardware(profile: ModelProfile, wish: Wish) -> list[dict[str, Any]]:
    """For each common card the fewest of one host that carry the model."""
    found = []
    for label, total in CARDS:
        for count in COUNTS:
            gpus = tuple(GpuSlot(index, "nvidia", f"{label} GPU", total, total) for index in range(count))
            plan = plan_gpu(profile, [Host("one-host", gpus)], wish)
            if isinstance(plan, Plan):
                found.append(
                    {
                        "change": f"a host with {count} x {label} GPU",
                        "strategy": plan.strategy.value,
                        "tensor_parallel_size": plan.tp,
                        "pipeline_parallel_size": plan.pp,
                        "max_model_len": plan.max_model_len,
                    }
                )
                break
    return found


def _gguf(profile: ModelProfile, hosts: Sequence[Host]) -> list[dict[str, Any]]:
    parameters = profile.parameters or counted_parameters(profile)
    need = to_mib(parameters * GGUF_BYTES_PER_PARAMETER)
    best = max(hosts, key=lambda host: host.ram_available_mb, default=None)
    if best is None or need > best.ram_available_mb:
        return []
    return [{"change": f"a 4-bit GGUF under VLLM_MODEL_PATH: about {need} MiB of RAM on {best.node_id}"}]
