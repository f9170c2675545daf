"""What a container needs of its platform, and no privilege beyond (VLLM.md B4)."""

from typing import Any

from compute_common.engine_containers import Template, images_of
from compute_common.enums import EngineKind
from vllm_orchestrator.planning.result import Plan
from vllm_orchestrator.rendering.argv import devices_of, engine_environment, layer_partition

SHARED_MEMORY = "16gb"  # NCCL's, in place of the host's IPC namespace
CPU_SHARED_MEMORY = "4gb"


def platform_of(plan: Plan, rank: int) -> dict[str, Any]:
    """The part of a compose service that CUDA, ROCm or a processor asks for; its `environment` too."""
    if plan.engine is EngineKind.LLAMA_CPP:
        return {}
    if plan.utilization is None:
        return _processor(plan)
    shared = {"shm_size": SHARED_MEMORY} if plan.tp * plan.pp > 1 else {}
    return shared | (_rocm(plan, rank) if plan.vendor == "amd" else _cuda(plan, rank))


def image_of(plan: Plan, vllm_image: str, llama_image: str) -> str:
    """The image of the platform, of the release that `vllm_image` names; one of another name is kept."""
    return images_of(vllm_image, llama_image)[_template(plan)]


def _template(plan: Plan) -> Template:
    if plan.engine is EngineKind.LLAMA_CPP:
        return Template.LLAMA
    if plan.utilization is None:
        return Template.CPU
    return Template.ROCM if plan.vendor == "amd" else Template.CUDA


def _cuda(plan: Plan, rank: int) -> dict[str, Any]:
    device = {"driver": "nvidia", "device_ids": devices_of(plan.places[rank]), "capabilities": ["gpu"]}
    return {
        "deploy": {"resources": {"reservations": {"devices": [device]}}},
        "environment": {**dict(plan.environment), **layer_partition(plan)},
    }


def _rocm(plan: Plan, rank: int) -> dict[str, Any]:
    cards = {"HIP_VISIBLE_DEVICES": ",".join(devices_of(plan.places[rank]))}
    return {
        "devices": ["/dev/kfd", "/dev/dri"],
        "group_add": ["video"],
        "cap_add": ["SYS_PTRACE"],
        "security_opt": ["seccomp=unconfined"],
        "environment": {**engine_environment(plan), **cards},
    }


def _processor(plan: Plan) -> dict[str, Any]:
    return {
        "shm_size": CPU_SHARED_MEMORY,
        "cap_add": ["SYS_NICE"],
        "security_opt": ["seccomp=unconfined"],
        "environment": engine_environment(plan),
    }
