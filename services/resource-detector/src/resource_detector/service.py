"""The resource detector as a service."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import structlog
from fastapi import APIRouter
from prometheus_client import Gauge

from compute_common import subjects
from compute_common.problems import Problem
from compute_common.shell import Service
from compute_common.shell.service import Check
from compute_common.tasks import end_tasks, every
from resource_detector import routes
from resource_detector.announcer import Announcer
from resource_detector.detection import Roots, detect
from resource_detector.detector import STALLED, Detector
from resource_detector.findings import Hardware
from resource_detector.host_desk import HostDesk
from resource_detector.settings import Settings
from resource_detector.sources.nvidia import NvmlReader

log = structlog.get_logger("detector")


class ResourceDetector(Service):
    name = "resource-detector"
    title = "Resource detector"
    description = "What this host really has, announced to the cluster."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self._nvml = NvmlReader()
        self.detector = Detector(self._read, self._nvml.close)
        self.announcer = Announcer(
            self.bus, self.detector, self.node_id, settings.heartbeat_seconds, labels_of(settings.node_labels)
        )
        self.desk = HostDesk(settings, self.bus, self.node_id)
        self._tasks: list[asyncio.Task[None]] = []
        registry = self.metrics.registry
        self._seconds = Gauge(
            "compute_detect_duration_seconds", "Duration of the last detection", registry=registry
        )
        self._warnings = Gauge("compute_detect_warnings", "Values that could not be read", registry=registry)
        self._gpus = Gauge("compute_detect_gpus", "Usable GPUs of this host", registry=registry)

    def connection_name(self) -> str:
        """The node id itself: the registry recognises a dead host by it."""
        return self.node_id

    def routers(self) -> Sequence[APIRouter]:
        return [routes.router(self.detector, self.announcer.document), routes.host_router(self.desk)]

    def checks(self) -> dict[str, Check]:
        return {"detection": Check(self._detection, required=False)}

    async def start(self) -> None:
        with contextlib.suppress(Problem):  # a stuck driver: the next look may do better
            await self._look()
        await self.bus.subscribe(subjects.NODES_REANNOUNCE, self.announcer.asked)
        own = subjects.node_subject(self.node_id, "reannounce")
        await self.bus.subscribe(own, self._asked_by_name)
        await self.bus.subscribe(subjects.gpu_subject("level", self.node_id), self.announcer.memory_said)
        await self.desk.serve()
        self.bus.on_connect(self.announcer.connected)
        self._tasks = [
            asyncio.create_task(every(self.settings.heartbeat_seconds, self.announcer.beat), name="beat"),
            asyncio.create_task(every(self.settings.detect_seconds, self._look), name="detect"),
        ]

    async def stop(self) -> None:
        await end_tasks(self._tasks)
        await self.announcer.stop()
        await self.desk.stop()
        await self.detector.close()

    async def _look(self) -> None:
        await self.announcer.look_again()
        found = await self.detector.current()
        self._seconds.set(found.seconds)
        self._warnings.set(len(found.hardware.warnings))
        self._gpus.set(len(found.hardware.gpus))

    async def _asked_by_name(self, _body: dict[str, object]) -> None:
        await self.announcer.asked({"node_id": self.node_id})

    def _read(self) -> Hardware:
        settings = self.settings
        roots = Roots(settings.proc_root, settings.sys_root)
        disks = tuple(dict.fromkeys((Path("/"), settings.compute_home)))
        return detect(roots, self._nvml, settings.node_hostname, disks)

    async def _detection(self) -> tuple[bool, str | None]:
        last = self.detector.last
        if self.detector.stalled or last is None:
            return False, STALLED
        hardware = last.hardware
        if hardware.memory.total_mb <= 0:
            return False, "the memory of this host could not be read"
        return (
            True,
            f"{hardware.cpu.threads} threads, {hardware.memory.total_mb} MiB, {len(hardware.gpus)} GPUs",
        )


def labels_of(text: str) -> dict[str, str]:
    """`key=value,key=value` as labels; what is not such a pair is left out with a warning."""
    found = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, mark, value = pair.partition("=")
        if mark and 0 < len(key) <= 128 and len(value) <= 512:
            found[key.strip()] = value.strip()
        else:
            log.warning("NODE_LABELS has a part that is not key=value", part=pair[:80])
    return found
