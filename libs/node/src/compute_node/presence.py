"""How the cluster knows this worker: its document, and, where it is the node itself, its heartbeat."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any

import structlog

from compute_common import __version__, subjects
from compute_common.bus import Bus, Message
from compute_common.ids import new_id
from compute_common.problems import Problem
from compute_common.schemas.node import Reannounce
from compute_common.tasks import end_tasks
from compute_node.host import host_document

log = structlog.get_logger("presence")

ANSWER_DELAY_SECONDS = 1.0
RECONNECT_SPREAD_SECONDS = 5.0
REPEAT_SECONDS = 30.0
ANSWER_SECONDS = 2.0
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)  # while no registry answers; then the repetition is soon enough


class Presence:
    """Partial document (slots, work types) beside a resource detector, or the whole one with `announce`."""

    def __init__(
        self,
        bus: Bus,
        node_id: str,
        *,
        slots: int,
        announce: bool,
        heartbeat_seconds: float,
        labels: dict[str, str],
        managed: bool,
    ) -> None:
        self._bus = bus
        self._node_id = node_id
        self._slots = slots
        self._announce = announce
        self._heartbeat_seconds = heartbeat_seconds
        self._labels = labels
        self._managed = managed
        self.session = new_id("run")  # names this run of the program
        self._tasks: set[asyncio.Task[None]] = set()
        self.work_types: list[str] = []
        self.active_jobs: Callable[[], int] = lambda: 0
        self._left = False
        self._told = False

    def document(self) -> dict[str, Any]:
        """What is announced. Work given to an earlier `session` went down with that run."""
        document: dict[str, Any] = {
            "node_id": self._node_id,
            "hostname": socket.gethostname() or "localhost",
            "work_types": [] if self._left else self.work_types,
            "slots": self._slots,
            "fenced": True,
            "compute_version": __version__,
            "session": self.session,
        }
        if self._labels:
            document["labels"] = self._labels
        if self._announce:
            document = {**host_document(), **document, "heartbeat_seconds": self._heartbeat_seconds}
            if self._managed:
                document["managed"] = True
        return document

    async def start(self) -> None:
        await self._bus.subscribe(subjects.NODES_REANNOUNCE, self._asked)
        await self._bus.subscribe(subjects.node_subject(self._node_id, "reannounce"), self._asked_by_name)
        self._bus.on_connect(self._connected)
        if self._announce:
            self._spawn(self._beat())
        self._spawn(self._repeat())

    async def leave(self) -> None:
        """Say that no more work is taken here; nobody waits for an answer."""
        self._left = True
        with contextlib.suppress(Exception):
            await self._bus.publish(subjects.NODES_ANNOUNCE, self.document())
            await self._bus.flush()

    async def stop(self) -> None:
        await end_tasks(self._tasks)

    async def tell(self) -> bool:
        """Whether a registry has the document now; while NATS is away the next connect tells it."""
        try:
            await self._bus.request(subjects.NODES_ANNOUNCE, self.document(), ANSWER_SECONDS)
        except Problem as problem:
            if problem.status < 500:
                log.warning("the registry refuses this node", cause=problem.cause, detail=problem.detail)
            return False
        except ValueError:
            return False
        return True

    async def _tell_until_heard(self, spread_seconds: float) -> None:
        """Somewhen within the spread, and again soon while no registry says that it heard."""
        await asyncio.sleep(random.uniform(0, spread_seconds))  # noqa: S311  (spreading, not secrecy)
        for pause in PAUSES_SECONDS:
            if await self.tell():
                return
            await asyncio.sleep(pause)

    async def _connected(self) -> None:
        """Tell: at once the first time; after a lost connection spread out, since everybody lost it."""
        spread_seconds = RECONNECT_SPREAD_SECONDS if self._told else 0.0
        self._told = True
        self._spawn(self._tell_until_heard(spread_seconds))

    async def _asked(self, message: Message) -> None:
        asked = Reannounce.model_validate(message)
        if asked.concerns(self._node_id):
            self._spawn(self._tell_until_heard(asked.spread_seconds))

    async def _asked_by_name(self, _message: Message) -> None:
        self._spawn(self._tell_until_heard(ANSWER_DELAY_SECONDS))

    async def _beat(self) -> None:
        while True:
            beat = {"node_id": self._node_id, "active_jobs": self.active_jobs(), "status": "online"}
            with contextlib.suppress(Problem):
                await self._bus.publish(subjects.NODES_HEARTBEAT, beat)
            await asyncio.sleep(self._heartbeat_seconds)

    async def _repeat(self) -> None:
        """Say it again from time to time: not every registry answers across NATS accounts."""
        while True:
            await asyncio.sleep(REPEAT_SECONDS)
            await self.tell()

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
