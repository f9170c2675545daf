"""The model instances that are ready on this node, and how to reach them."""

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.vllm import Instance, InstanceEvent, NodeInstances
from compute_common.tasks import end_tasks

log = structlog.get_logger("instances")

ASK_SECONDS = 2.0
SERVING = frozenset({InstanceStatus.READY, InstanceStatus.DEGRADED})


class Instances:
    """Follows `compute.vllm.instance.v1`, and asks this host's orchestrator on each connect."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._ready: dict[str, Instance] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._bus.subscribe(subjects.VLLM_INSTANCE, self._event)
        self._bus.on_connect(self._connected)

    async def stop(self) -> None:
        await end_tasks(self._tasks)

    def find(self, model: str | None) -> tuple[Instance, str] | None:
        """The instance that answers to `model` (ignoring case) and the name it knows it by.

        Without a name the only instance is meant, when there is exactly one.
        """
        if model is None:
            only = list(self._ready.values())
            return (only[0], _own_name(only[0])) if len(only) == 1 else None
        for instance in self._ready.values():
            for name in (*instance.served_names, instance.instance_name, instance.model_name):
                if name.lower() == model.lower():
                    return instance, name if name in instance.served_names else _own_name(instance)
        return None

    def names(self) -> list[str]:
        return sorted(self._ready)

    async def refresh(self) -> None:
        """Ask the orchestrator of this host; nothing changes when there is none."""
        with contextlib.suppress(Problem, ValidationError):
            subject = subjects.vllm_subject("status", self._node_id)
            answer = await self._bus.request(subject, {}, ASK_SECONDS)
            known = NodeInstances.model_validate(answer)
            self._ready = {}
            for instance in known.instances:
                self._take(instance)

    async def _connected(self) -> None:
        task = asyncio.create_task(self.refresh())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _event(self, message: Message) -> None:
        if message.get("node_id") != self._node_id:
            return
        event = InstanceEvent.model_validate(message)
        if event.event == "removed":
            self._ready.pop(event.instance.instance_name, None)
        else:
            self._take(event.instance)

    def _take(self, instance: Instance) -> None:
        if instance.status in SERVING and api_base(instance) is not None:
            self._ready[instance.instance_name] = instance
        else:
            self._ready.pop(instance.instance_name, None)


def api_base(instance: Instance) -> str | None:
    """The root of the OpenAI-compatible API without `/v1`; None unless it is a plain HTTP address."""
    parts: Any = urlsplit(instance.endpoints.api or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        return None
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _own_name(instance: Instance) -> str:
    return instance.served_names[0] if instance.served_names else instance.instance_name
