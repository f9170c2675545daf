"""The work-marshaling service: the fold over the log, and what stands around it."""

import asyncio
import time

import nats.errors
import structlog
from fastapi import APIRouter
from nats.js.errors import Error as JetStreamError

from compute_common.jetstream import WORK_STREAM, work_stream
from compute_common.problems import Problem
from compute_common.shell import Service
from compute_common.shell.service import Check
from compute_common.tasks import end_tasks
from work_marshaling import bus_handlers, routes, routes_blacklist
from work_marshaling.dispatcher import Dispatcher
from work_marshaling.events import Record
from work_marshaling.feed import Feed
from work_marshaling.intake import Intake
from work_marshaling.log_reader import LogReader
from work_marshaling.log_writer import Bodies, LogWriter
from work_marshaling.measures import Measures
from work_marshaling.node_follower import NodeFollower
from work_marshaling.queries import Queries
from work_marshaling.settings import Settings
from work_marshaling.state import WorkState

log = structlog.get_logger("work-marshaling")


class WorkMarshaling(Service):
    name = "work-marshaling"
    title = "Work marshaling"
    description = "The durable work queue: what is accepted is done, once. The log is the truth."

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.settings = settings
        self.state = WorkState(settings.limits())
        stream = work_stream(settings.work_stream_replicas)
        self.log = LogReader(self.bus, stream, self._apply, self._reset)
        self.writer = LogWriter(self.bus)
        self.bodies = Bodies(self.bus)
        self.feed = Feed()
        self.nodes = NodeFollower(
            self.bus, settings.work_nodes_refresh_seconds, settings.work_default_slots, self._nodes_changed
        )
        self.dispatcher = Dispatcher(
            settings,
            state=self.state,
            reader=self.log,
            writer=self.writer,
            bodies=self.bodies,
            nodes=self.nodes,
        )
        self.intake = Intake(self)
        self.queries = Queries(self)
        self.measures = Measures(self)
        self._purging: asyncio.Task[None] | None = None

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
        self.dispatcher.start()
        self._purging = asyncio.create_task(self._purge_for_ever(), name="work-log-purge")

    async def stop(self) -> None:
        self.feed.close()
        await end_tasks([self._purging])
        await self.dispatcher.stop()
        await self.nodes.stop()
        await self.log.stop()

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
            self.bodies.keep(record.seq, record.body)
        self.dispatcher.follow(outcome, time.time())
        self.measures.observe(outcome, record)
        self.feed.publish(outcome, record.time)

    def _reset(self) -> None:
        self.state = WorkState(self.settings.limits())
        self.bodies.clear()
        self.dispatcher.reset(self.state)

    def _nodes_changed(self) -> None:
        self.dispatcher.wake()

    # --- upkeep

    async def _log_probe(self) -> tuple[bool, str | None]:
        if not self.log.caught_up:
            return False, f"reading the work log, at {self.log.position}"
        role = "leading" if self.dispatcher.leading else "standing by"
        return True, f"at {self.log.position}, {role}, durability: default (synced every 2 minutes)"

    async def _purge_for_ever(self) -> None:
        """Forget old final items, and purge the log up to the oldest item that is kept."""
        purged = 0
        while True:
            await asyncio.sleep(self.settings.work_purge_seconds)
            self.state.expire(time.time())
            floor = self.state.floor()
            if not self.is_ready() or not self.dispatcher.leading or floor <= purged + 1:
                continue
            try:
                await self.bus.jetstream().purge_stream(WORK_STREAM, seq=floor)
                purged = floor
            except (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError) as error:
                log.warning("the work log could not be purged", reason=type(error).__name__)
