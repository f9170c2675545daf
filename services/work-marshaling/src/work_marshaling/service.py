"""The work-marshaling service: the fold over the log, and what stands around it."""

import gc
import time

import structlog
from fastapi import APIRouter
from nats.js.api import StreamInfo

from compute_common.jetstream import RESULTS_BUCKET, SNAPSHOTS_BUCKET, work_stream
from compute_common.shell import Service
from compute_common.shell.service import Check
from work_marshaling import bus_handlers, routes, routes_blacklist
from work_marshaling.dispatcher import Dispatcher
from work_marshaling.events import Record
from work_marshaling.feed import Feed
from work_marshaling.intake import Intake
from work_marshaling.leader import Leader
from work_marshaling.log_reader import LogReader
from work_marshaling.log_writer import Bodies, LogWriter
from work_marshaling.measures import Measures
from work_marshaling.node_follower import NodeFollower
from work_marshaling.object_store import Bucket
from work_marshaling.queries import Queries
from work_marshaling.results import Results
from work_marshaling.settings import Settings
from work_marshaling.snapshots import Snapshots
from work_marshaling.state import WorkState
from work_marshaling.upkeep import Upkeep

log = structlog.get_logger("work-marshaling")

NEW_OBJECTS = 10_000  # before they are looked through for garbage: nearly all of them are items, and stay


class WorkMarshaling(Service):
    name = "work-marshaling"
    title = "Work marshaling"
    description = "The durable work queue: what is accepted is done, once. The log is the truth."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.state = WorkState(settings.limits())
        replicas = settings.work_stream_replicas
        self.log = LogReader(self.bus, work_stream(replicas), self._apply, self._begin, self._arrived)
        self.writer = LogWriter(self.bus)
        self.bodies = Bodies(self.bus)
        self.feed = Feed()
        self.leader = Leader(
            self.bus,
            replica=self.replica_name(),
            reader=self.log,
            writer=self.writer,
            state=lambda: self.state,
            changed=self._wake,
        )
        self.snapshots = Snapshots(Bucket(self.bus, SNAPSHOTS_BUCKET, replicas=replicas))
        kept_seconds = settings.work_retention_hours * 3600
        stored = Bucket(self.bus, RESULTS_BUCKET, replicas=replicas, ttl_seconds=kept_seconds)
        self.results = Results(self.bus, self.bodies, stored, self.leader)
        self.nodes = NodeFollower(
            self.bus, settings.work_nodes_refresh_seconds, settings.work_default_slots, self._wake
        )
        self.dispatcher = Dispatcher(
            settings,
            bus=self.bus,
            state=self.state,
            leader=self.leader,
            writer=self.writer,
            bodies=self.bodies,
            nodes=self.nodes,
        )
        self.upkeep = Upkeep(self)
        self.intake = Intake(self)
        self.queries = Queries(self)
        self.measures = Measures(self)

    def routers(self) -> list[APIRouter]:
        return [routes.router(self), routes_blacklist.router(self)]

    def checks(self) -> dict[str, Check]:
        return {"work_log": Check(self._log_probe), "node_registry": Check(self.nodes.probe)}

    def is_ready(self) -> bool:
        return self.bus.connected and self.log.caught_up

    async def start(self) -> None:
        await bus_handlers.serve(self)
        await self.nodes.start()
        self.log.start()
        self.leader.start()
        self.dispatcher.start()
        self.upkeep.start()
        self.measures.start()

    async def stop(self) -> None:
        self.feed.close()
        await self.measures.stop()
        await self.upkeep.stop()
        await self.results.stop()
        await self.dispatcher.stop()
        await self.leader.stop()
        await self.nodes.stop()
        await self.log.stop()
        gc.enable()

    # --- the log arrives

    def _apply(self, record: Record) -> None:
        """Fold one record in and tell everybody. Nothing here may raise: the log must go on."""
        try:
            outcome = self.state.apply(record)
        except Exception:
            log.exception("a record could not be folded in", seq=record.seq, subject=record.subject)
            self.state.position = max(self.state.position, record.seq)
            self.state.ignored["internal"] += 1
            return
        if outcome.event == "submitted":
            self.bodies.keep(record.seq, record.body, record.trace)
        elif outcome.event == "completed" and outcome.item is not None:
            self.results.follow(outcome.item, record)
        now = time.time()
        for part in outcome.each():
            self.dispatcher.follow(part, now)
            self.measures.observe(part, record)
            self.feed.publish(part, record.time)
        self.dispatcher.wake()

    async def _begin(self, info: StreamInfo) -> int:
        """Start from the newest snapshot of this log, or from its beginning."""
        gc.disable()  # until all is read: a million objects that stay make every collection a waste
        gc.set_threshold(NEW_OBJECTS)
        limits = self.settings.limits()
        state = await self.snapshots.read(info, limits)
        self.state = state or WorkState(limits)
        self.bodies.clear()
        self.dispatcher.reset(self.state)
        self.upkeep.reset()
        return self.state.position

    def _arrived(self) -> None:
        if not gc.isenabled():
            gc.enable()
            gc.freeze()
        self._wake()

    def _wake(self) -> None:
        self.dispatcher.wake()

    # --- upkeep

    async def _log_probe(self) -> tuple[bool, str | None]:
        if not self.log.caught_up:
            return False, f"reading the work log, at {self.log.position}"
        role = "leading" if self.dispatcher.leading else "standing by"
        return True, f"at {self.log.position}, {role}, durability: default (synced every 2 minutes)"
