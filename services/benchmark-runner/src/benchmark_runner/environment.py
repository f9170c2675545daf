"""Under which circumstances a run was measured: hardware, driver, engine version, arguments."""

import asyncio
import contextlib
import os
import platform
from typing import Any

import httpx

from benchmark_runner.targets import Target
from compute_common import __version__, subjects
from compute_common.access.engine_door import engine_client
from compute_common.access.engine_hosts import EngineHosts
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.vllm import Instance

ASK_SECONDS = 3.0
MAX_ANSWER_BYTES = 1 << 20
MAX_WORDS = 4000
NAMES = "names"  # under which work asks for the model


async def environment(
    bus: Bus, target: Target, instance: Instance | None, reachable: EngineHosts
) -> dict[str, object]:
    """What could be found out; a part that does not answer is left out."""
    engine, node = await asyncio.gather(_engine(target.base_url, reachable), _node(bus, target.node_id))
    return {
        "endpoint": target.base_url,
        "model": target.model,
        **engine,
        **_of_instance(instance),
        **node,
        "generator": f"benchmark-runner {__version__}, a process of its own",
        "generator_host": platform.node(),
        "generator_cpus": os.cpu_count() or 0,
        "generator_python": platform.python_version(),
        "generator_system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "generator_load_1m": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _of_instance(instance: Instance | None) -> dict[str, object]:
    if instance is None:
        return {}
    return {
        "engine": instance.engine.value,
        NAMES: [instance.model_name, instance.instance_name],
        "engine_arguments": " ".join(instance.command)[:MAX_WORDS],
        "strategy": instance.strategy.value,
        "tensor_parallel_size": instance.tensor_parallel_size,
        "pipeline_parallel_size": instance.pipeline_parallel_size,
        "placement": [place.model_dump(mode="json") for place in instance.placement],
    }


async def _engine(base_url: str, reachable: EngineHosts) -> dict[str, object]:
    """vLLM tells its version at /version; llama-server its build and context at /props."""
    root = base_url.removesuffix("/v1")
    found: dict[str, object] = {}
    async with engine_client(reachable, timeout=ASK_SECONDS) as http:
        version, props = await asyncio.gather(_ask(http, f"{root}/version"), _ask(http, f"{root}/props"))
    if isinstance(version.get("version"), str):
        found["engine_version"] = version["version"][:100]
    if isinstance(props.get("build_info"), str):
        found["engine_version"] = props["build_info"][:100]
        found["engine_slots"] = props.get("total_slots")
        settings = props.get("default_generation_settings")
        if isinstance(settings, dict) and isinstance(settings.get("n_ctx"), int):
            found["engine_context_per_slot"] = settings["n_ctx"]
    return found


async def _ask(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """The JSON object there; empty for anything else, or for more than a mebibyte."""
    with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError, TimeoutError):
        async with asyncio.timeout(ASK_SECONDS), http.stream("GET", url) as answer:
            data = bytearray()
            async for part in answer.aiter_bytes():
                data += part
                if len(data) > MAX_ANSWER_BYTES:
                    return {}
            found = httpx.Response(answer.status_code, content=bytes(data)).json()
            return found if answer.status_code == 200 and isinstance(found, dict) else {}
    return {}


async def _node(bus: Bus, node_id: str | None) -> dict[str, object]:
    """The host's hardware, as the registry knows it."""
    if not node_id:
        return {}
    # Answers come in the order of ids after the cursor: one just below asks for this node and few others.
    before = node_id[:-1] + chr(ord(node_id[-1]) - 1)
    ask = {"cursor": before, "limit": 50, "online_only": False, "include_draining": True}
    with contextlib.suppress(Problem):
        answer = await bus.request(subjects.NODES_QUERY, ask, ASK_SECONDS)
        for node in answer.get("nodes", []):
            if isinstance(node, dict) and node.get("node_id") == node_id:
                return {f"node_{key}": value for key, value in _facts(node).items() if value}
    return {}


def _facts(node: dict[str, Any]) -> dict[str, object]:
    network = node.get("network") if isinstance(node.get("network"), dict) else {}
    return {
        "tier": node.get("tier"),
        "platform": node.get("platform"),
        "cpu": node.get("cpu_model"),
        "cpu_threads": node.get("cpu_threads"),
        "memory_mb": node.get("memory_mb"),
        "gpus": node.get("gpu_models"),
        "driver": node.get("gpu_driver_versions") or node.get("driver_version"),
        "network": network,
    }
