"""A plan as a complete compose document that starts the same thing by hand."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from compute_common.enums import EngineKind
from vllm_orchestrator.planning.result import Plan
from vllm_orchestrator.planning.several_hosts import joined_by_ray
from vllm_orchestrator.rendering.argv import Serving, engine_argv
from vllm_orchestrator.rendering.platforms import platform_of
from vllm_orchestrator.rendering.ray import ray_shell

MOUNT = "/models"
MODEL_CACHE = "/model-cache"
CONTAINER_PORT = 8000
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- inside the container
_FIRST_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf\Z")


def compose_document(plan: Plan, name: str, serving: Serving, *, image: str) -> dict[str, Any]:
    """One service named after the instance, and one `<name>-rank-<n>` for each further host of it.

    Those have a profile of their own, so that `up` starts the head alone: on the other hosts
    `up <name>-rank-<n>`. The model is mounted read-only when it is a local one, else fetched into a volume.
    `$` is doubled, as compose wants.
    """
    services = {name: _service(plan, name, serving, image=image, rank=0)}
    for rank in range(1, len(plan.places)):
        part = f"{name}-rank-{rank}"
        services[part] = {
            **_service(plan, part, serving, image=image, rank=rank),
            "profiles": [f"rank-{rank}"],
        }
    document: dict[str, Any] = {"services": services}
    if plan.engine is EngineKind.VLLM:
        document["volumes"] = {"model-cache": {}}
    return document


def _service(plan: Plan, name: str, serving: Serving, *, image: str, rank: int) -> dict[str, Any]:
    vllm = plan.engine is EngineKind.VLLM
    mount, model = _mounted(serving.model)
    inside = _inside(plan, serving, model)
    argv = engine_argv(plan, inside, rank=rank)
    platform = platform_of(plan, rank)
    environment = platform.pop("environment", {})
    service: dict[str, Any] = {
        "image": image,
        "container_name": name,
        **_command(plan, argv, rank),
        **_network(plan, serving),
        **platform,
        "volumes": [*mount, *([f"model-cache:{MODEL_CACHE}"] if vllm else [])],
        "labels": {"compute.instance": name, "compute.node": plan.places[rank].node_id},
        "restart": "unless-stopped",
        "stop_grace_period": "30s",
    }
    if rank == 0:  # the other parts serve nothing that could be asked
        service["healthcheck"] = _health(inside, vllm)
    service = {key: _escaped(value) for key, value in service.items() if value}
    if vllm:
        service["environment"] = {**_escaped(environment), **_hub(bool(mount)), **_own_address(plan, rank)}
    return service


def _command(plan: Plan, argv: Sequence[str], rank: int) -> dict[str, Any]:
    """What follows the image's entry point (`vllm serve`, `llama-server`); with Ray a shell's words."""
    if joined_by_ray(plan):
        return {"entrypoint": ["/bin/bash", "-c"], "command": [ray_shell(plan, rank, argv)]}
    return {"command": list(argv[2:] if plan.engine is EngineKind.VLLM else argv[1:])}


def _mounted(model: str) -> tuple[list[str], str]:
    """(what to mount, the model's path inside); a Hub id stays what it is."""
    if not model.startswith("/"):
        return [], model
    path = PurePosixPath(model)
    if _FIRST_SHARD.search(path.name):  # its other shards lie beside it
        return [f"{path.parent}:{MOUNT}:ro"], f"{MOUNT}/{path.name}"
    return [f"{path}:{MOUNT}/{path.name}:ro"], f"{MOUNT}/{path.name}"


def _inside(plan: Plan, serving: Serving, model: str) -> Serving:
    if len(plan.places) > 1:  # on the host's own network: its ports, its addresses
        return Serving(serving.names, model, serving.host, serving.port)
    return Serving(serving.names, model, ANY_ADDRESS, CONTAINER_PORT)


def _network(plan: Plan, serving: Serving) -> dict[str, Any]:
    """Parts on several hosts find each other by any port, so they share their hosts' networks."""
    if len(plan.places) > 1:
        return {"network_mode": "host"}
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return {"ports": [f"{host}:{serving.port}:{CONTAINER_PORT}"]}


def _hub(local: bool) -> dict[str, str]:
    common = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HOME": MODEL_CACHE}
    return common | ({"HF_HUB_OFFLINE": "1"} if local else {"HF_TOKEN": "${HF_TOKEN:-}"})


def _own_address(plan: Plan, rank: int) -> dict[str, str]:
    place = plan.places[rank]
    return {"VLLM_HOST_IP": place.address} if len(plan.places) > 1 and place.address else {}


def _health(inside: Serving, vllm: bool) -> dict[str, Any]:
    host = "127.0.0.1" if inside.host == ANY_ADDRESS else inside.host
    shown = f"[{host}]" if ":" in host else host
    return {
        "test": ["CMD", "curl", "-fsS", f"http://{shown}:{inside.port}/health"],
        "interval": "10s",
        "timeout": "5s",
        "retries": 6,
        "start_period": "15m" if vllm else "1m",
    }


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value
