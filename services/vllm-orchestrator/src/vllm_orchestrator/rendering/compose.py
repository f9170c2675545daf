"""A plan as a complete compose document that starts the same thing by hand."""

from pathlib import PurePath
from typing import Any

from compute_common.enums import EngineKind
from vllm_orchestrator.planning.result import Plan
from vllm_orchestrator.rendering.argv import (
    Serving,
    devices_of,
    engine_argv,
    engine_environment,
    layer_partition,
)

MOUNT = "/models"
MODEL_CACHE = "/model-cache"
CONTAINER_PORT = 8000
START_PERIOD = "15m"


def compose_document(plan: Plan, name: str, serving: Serving, *, image: str, rank: int = 0) -> dict[str, Any]:
    """One service named after the instance; for a layout over several hosts the part of `rank`.

    The model's folder is mounted read-only when it is a local one. `$` is doubled, as compose wants.
    """
    local = serving.model.startswith("/")
    model = f"{MOUNT}/{PurePath(serving.model).name}" if local else serving.model
    inside = Serving(serving.names, model, "0.0.0.0", CONTAINER_PORT)  # noqa: S104 -- inside the container
    argv = engine_argv(plan, inside, rank=rank)
    service: dict[str, Any] = {
        "image": image,
        "container_name": name,
        "command": argv[2:] if plan.engine is EngineKind.VLLM else argv[1:],
        "ports": [f"{serving.host}:{serving.port}:{CONTAINER_PORT}"],
        "environment": {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_TOKEN": "${HF_TOKEN:-}"},
        "healthcheck": _health(plan),
        "labels": {"compute.instance": name},
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
    }
    if local:
        service["volumes"] = [f"{PurePath(serving.model)}:{model}:ro"]
    if plan.engine is EngineKind.LLAMA_CPP:
        del service["environment"]
    else:
        cards = _cards(plan, rank)
        environment = {**service["environment"], **cards.pop("environment", {}), "HF_HOME": MODEL_CACHE}
        service |= {**cards, "environment": environment}
        service["volumes"] = [*service.get("volumes", []), f"model-cache:{MODEL_CACHE}"]
    escaped = {key: _escaped(value) if key != "environment" else value for key, value in service.items()}
    document: dict[str, Any] = {"services": {name: escaped}}
    if plan.engine is EngineKind.VLLM:
        document["volumes"] = {"model-cache": {}}
    return document


def _health(plan: Plan) -> dict[str, Any]:
    url = f"http://127.0.0.1:{CONTAINER_PORT}/health"
    return {
        "test": ["CMD", "curl", "-fsS", url],
        "interval": "10s",
        "timeout": "5s",
        "retries": 6,
        "start_period": START_PERIOD if plan.engine is EngineKind.VLLM else "1m",
    }


def _cards(plan: Plan, rank: int) -> dict[str, Any]:
    ids = devices_of(plan.places[rank])
    extra: dict[str, Any] = {"shm_size": "16gb"} if plan.tp * plan.pp > 1 else {}
    if len(plan.places) > 1:
        extra |= {"network_mode": "host", "ports": []}
    if plan.vendor == "amd":
        chosen = engine_environment(plan)
        return extra | {
            "devices": ["/dev/kfd", "/dev/dri"],
            "group_add": ["video"],
            "environment": {**chosen, "HIP_VISIBLE_DEVICES": ",".join(ids)},
        }
    device = {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}
    settings = {**dict(plan.environment), **layer_partition(plan)}
    extra |= {"environment": settings} if settings else {}
    return extra | {"deploy": {"resources": {"reservations": {"devices": [device]}}}}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value
