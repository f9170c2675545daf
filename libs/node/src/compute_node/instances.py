"""The model instances that are ready on this node, and how to reach them."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from pydantic import ValidationError

from compute_common import subjects
from compute_common.access.engine_hosts import EngineHosts
from compute_common.bus import Bus, Message
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.vllm import Instance, InstanceEvent, NodeInstances
from compute_common.tasks import end_tasks

log = structlog.get_logger("instances")

ASK_SECONDS = 2.0
START_SECONDS = 30.0
SERVING = frozenset({InstanceStatus.READY, InstanceStatus.DEGRADED})


class Instances:
    """Follows `compute.vllm.instance.v1`, and asks this host's orchestrator on each connect."""

    def __init__(self, bus: Bus, node_id: str, reachable: EngineHosts) -> None:
        self._bus = bus
        self.reachable = reachable
        self._node_id = node_id
        self._ready: dict[str, Instance] = {}
        self._asleep: dict[str, Instance] = {}
        self._waking: dict[str, Instance] = {}
        self._failed: set[str] = set()
        self._changed = asyncio.Event()
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
        return _found(self._ready, model)

    async def wake(self, model: str | None, limit_seconds: float) -> bool:
        """Start the idle instance that answers to `model` and wait for it; False where none comes up."""
        found = _found({**self._asleep, **self._waking}, model)
        if found is None:
            return False
        name = found[0].instance_name
        with contextlib.suppress(Problem, TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await self._wake(found[0])
        return name in self._ready

    async def _wake(self, instance: Instance) -> None:
        name = instance.instance_name
        if name in self._waking:  # another item asked for it already
            await self._until_known(name)
            return
        self._waking[name] = instance
        try:
            subject = subjects.vllm_subject("start", self._node_id)
            await self._bus.request(subject, {"instance_name": name}, START_SECONDS)
            await self._until_known(name)
        finally:
            del self._waking[name]

    async def _until_known(self, name: str) -> None:
        while name not in self._ready and name not in self._failed:
            self._changed.clear()
            await self._changed.wait()

    def names(self) -> list[str]:
        return sorted(self._ready)

    async def refresh(self) -> None:
        """Ask the orchestrator of this host; nothing changes when there is none."""
        with contextlib.suppress(Problem, ValidationError):
            subject = subjects.vllm_subject("status", self._node_id)
            answer = await self._bus.request(subject, {}, ASK_SECONDS)
            known = NodeInstances.model_validate(answer)
            self._ready, self._asleep = {}, {}
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
            self._drop(event.instance.instance_name)
        else:
            self._take(event.instance)
        self._changed.set()

    def _take(self, instance: Instance) -> None:
        name = instance.instance_name
        self._drop(name)
        if instance.status in SERVING and self.reachable.allow(instance.endpoints.api):
            self._ready[name] = instance
        elif instance.wakeable:
            self._asleep[name] = instance
        elif instance.status is InstanceStatus.FAILED:
            self._failed.add(name)

    def _drop(self, name: str) -> None:
        self._ready.pop(name, None)
        self._asleep.pop(name, None)
        self._failed.discard(name)


def _found(instances: Mapping[str, Instance], model: str | None) -> tuple[Instance, str] | None:
    if model is None:
        only = list(instances.values())
        return (only[0], _own_name(only[0])) if len(only) == 1 else None
    for instance in instances.values():
        for name in (*instance.served_names, instance.instance_name, instance.model_name):
            if name.lower() == model.lower():
                return instance, _engine_name(instance, name)
    return None


def api_base(instance: Instance) -> str | None:
    """The root of the OpenAI-compatible API without `/v1`; None unless it is a plain HTTP address."""
    parts: Any = urlsplit(instance.endpoints.api or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        return None
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _engine_name(instance: Instance, name: str) -> str:
    """What the engine understands: an attached one has never heard of the names we give it."""
    if instance.attached:
        known = instance.config.get("models") or []
        return name if name in known else _own_name(instance)
    return name if name in instance.served_names else _own_name(instance)


def _own_name(instance: Instance) -> str:
    if instance.attached and instance.config.get("model"):
        return str(instance.config["model"])
    return instance.served_names[0] if instance.served_names else instance.instance_name
