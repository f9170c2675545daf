"""The GPU orchestrator: the ledger of this host's VRAM and RAM."""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from fastapi import APIRouter

from compute_common import subjects
from compute_common.problems import Problem
from compute_common.schemas.gpu import ReservationEvent
from compute_common.shell import Service
from compute_common.shell.service import Check
from compute_common.tasks import end_tasks, every
from compute_common.times import utc_now
from gpu_orchestrator import bus_handlers, routes, views
from gpu_orchestrator.desk import ReservationDesk
from gpu_orchestrator.entries import Entry
from gpu_orchestrator.gauges import Gauges
from gpu_orchestrator.health_voice import HealthVoice
from gpu_orchestrator.hosts import Hosts
from gpu_orchestrator.journal import Journal
from gpu_orchestrator.local import LocalHost
from gpu_orchestrator.memory_voice import MemoryVoice
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.observer import Observer
from gpu_orchestrator.older_routes import older_router
from gpu_orchestrator.settings import Settings
from gpu_orchestrator.yield_desk import YieldDesk

log = structlog.get_logger("gpu-orchestrator")


class GpuOrchestrator(Service):
    """One a host. It is the only one to open this host's journal."""

    name = "gpu-orchestrator"
    title = "GPU orchestrator"
    description = (
        "Reservations of this host's VRAM and RAM over what is really in use, and a memory forecast."
    )

    def __init__(self, settings: Settings, observer: Observer | None = None) -> None:
        super().__init__(settings)
        self.settings = settings
        self.desk = ReservationDesk(
            Journal(settings.journal_path, settings.journal_marker),
            observer or Observer((settings.gpu_margin_mb, settings.ram_margin_mb)),
            settings.reservation_timeout_seconds,
            utc_now,
            self._announce,
        )
        self.watch = MemoryWatch(self.node_id, lambda: self.desk.ledger)
        self.voice = MemoryVoice(self.bus, self.node_id, self.watch)
        self.health = HealthVoice(self.bus, self.node_id)
        self.gauges = Gauges(self.node_id, self.metrics.registry)
        self.yields = YieldDesk(self.desk, settings.quiet_ranges, utc_now)
        self.hosts = Hosts(LocalHost(self.node_id, self.desk, self.yields, self.watch), self.bus)
        self._poller: asyncio.Task[None] | None = None

    def routers(self) -> Sequence[APIRouter]:
        return (
            routes.reservation_router(self.hosts),
            routes.state_router(self.hosts),
            routes.yield_router(self.hosts),
            older_router(self.hosts.local),
        )

    def checks(self) -> dict[str, Check]:
        return {"journal": Check(self._journal_ok, required=True), "gpus": Check(self._gpus_ok)}

    async def start(self) -> None:
        await self.desk.open()
        try:
            await self._look()
        except Exception:  # a driver's oddity must not keep the ledger down
            log.exception("the first look at this host's memory failed")
        await bus_handlers.serve(self.bus, self.hosts.local)
        self._poller = asyncio.create_task(
            every(self.settings.poll_seconds, self._look), name="memory-poller"
        )

    async def stop(self) -> None:
        await end_tasks([self._poller])
        await self.desk.close()

    async def _look(self) -> None:
        view = await self.desk.look()
        await self.yields.follow_quiet_hours()
        await self.voice.say(view)
        await self.health.say(view, self.desk.ledger)
        self.gauges.observe(view, self.desk.ledger, self.watch)

    async def _announce(self, event: str, entries: Sequence[Entry]) -> None:
        """Tell watchers; with NATS away they ask for states later."""
        self.gauges.events.labels(event).inc(len(entries) or 1)
        for entry in entries or (None,):
            reservation = None if entry is None else views.reservation(entry, self.desk.observer.view)
            message = ReservationEvent(
                event=event, node_id=self.node_id, reservation=reservation, timestamp=utc_now()
            )
            with contextlib.suppress(Problem):
                await self.bus.publish(subjects.GPU_STATE, message)

    async def _journal_ok(self) -> tuple[bool, str | None]:
        problem = self.desk.problem()
        return problem is None, problem or str(self.settings.journal_path.name)

    async def _gpus_ok(self) -> tuple[bool, str | None]:
        detail = self.desk.observer.detail
        view = self.desk.observer.view
        sick = [
            f"GPU {gpu.index} is {gpu.health}" for gpu in (view.gpus if view else ()) if gpu.health != "ok"
        ]
        if detail or sick:
            return False, detail or "; ".join(sick)
        return True, f"{len(view.gpus) if view else 0} GPUs"
