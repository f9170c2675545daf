"""What a container needs of its platform, and no privilege beyond (VLLM.md B4)."""

import re
from typing import Any

from compute_common.engine_containers import Template
from compute_common.engine_images import board_image, images_of, is_stock, stock_image
from compute_common.enums import EngineKind
from vllm_orchestrator.planning.result import Plan
from vllm_orchestrator.rendering.argv import devices_of, engine_environment, layer_partition

RELEASE = re.compile(r"v?\d{1,3}\.\d{1,3}\.\d{1,3}(\.post\d{1,2})?")
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
    """The image of the platform, of the release that was asked for, else that `vllm_image` names.

    An image of another name than vLLM's own is kept, for whatever it is.
    """
    template = _template(plan)
    if template is Template.LLAMA or not is_stock(vllm_image):
        return images_of(vllm_image, llama_image)[template]
    version = plan.wish.engine_version or ""
    if RELEASE.fullmatch(version):
        vllm_image = stock_image(version)
    own = board_image(plan.card) if template is Template.CUDA else None
    return own or images_of(vllm_image, llama_image)[template]


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
