"""Says on NATS that this node is there: announced at start, on change, when asked; a heartbeat in between."""

import asyncio
import contextlib
import random

import nats.errors
import structlog

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from compute_common.schemas.base import JsonObject
from compute_common.schemas.memory import NodeMemoryLevel
from compute_common.schemas.node import Reannounce
from compute_common.tasks import end_tasks
from resource_detector.detector import Detector
from resource_detector.document import fingerprint, node_document
from resource_detector.findings import Hardware
from resource_detector.memory_level import HeardLevel
from resource_detector.pulse import cpu_load, heartbeat

log = structlog.get_logger("announcer")

_FAILURES = (Problem, nats.errors.Error)
_RANDOM = random.SystemRandom()
RECONNECT_SPREAD_SECONDS = 5.0


class Announcer:
    """The voice of one node."""

    def __init__(
        self, bus: Bus, detector: Detector, node_id: str, heartbeat_seconds: float, labels: dict[str, str]
    ) -> None:
        self._bus = bus
        self._detector = detector
        self._node_id = node_id
        self._heartbeat_seconds = heartbeat_seconds
        self._labels = labels
        self._announced: JsonObject | None = None
        self._was_connected = False
        self._answering: asyncio.Task[None] | None = None
        self._memory = HeardLevel(node_id)

    def document(self, hardware: Hardware) -> JsonObject:
        """The announcement of this hardware."""
        return node_document(hardware, self._node_id, self._heartbeat_seconds, self._labels)

    async def announce(self) -> None:
        """Announce now, whatever was announced before; then beat once, so that the state is known too."""
        with contextlib.suppress(*_FAILURES):
            hardware = (await self._detector.current()).hardware
            document = self.document(hardware)
            await self._bus.publish(subjects.NODES_ANNOUNCE, document)
            self._announced = fingerprint(document)
            await self._bus.publish(subjects.NODES_HEARTBEAT, self._beat(hardware))

    async def look_again(self) -> None:
        """Detect; announce only what changed."""
        hardware = (await self._detector.refresh()).hardware
        changed = fingerprint(self.document(hardware)) != self._announced
        if self._bus.connected and changed:
            log.info("hardware changed", gpus=len(hardware.gpus), memory_mb=hardware.memory.total_mb)
            await self.announce()

    async def beat(self) -> None:
        """One heartbeat; while NATS is away there is nobody to hear it."""
        with contextlib.suppress(*_FAILURES):
            hardware = (await self._detector.current()).hardware
            await self._bus.publish(subjects.NODES_HEARTBEAT, self._beat(hardware))

    async def asked(self, body: Message) -> None:
        """`compute.nodes.reannounce.v1` for this node or for all: answer within the spread it asks for."""
        asked = Reannounce.model_validate(body)
        if asked.concerns(self._node_id):
            self._answer_within(asked.spread_seconds)

    async def memory_said(self, body: Message) -> None:
        """The GPU orchestrator of this host says how memory is; a change is passed on at once."""
        if self._memory.hear(NodeMemoryLevel.model_validate(body)):
            await self.beat()

    async def connected(self) -> None:
        """Announce: at once the first time; after a lost connection spread out, since everybody lost it."""
        if self._was_connected:
            self._answer_within(RECONNECT_SPREAD_SECONDS)
        else:
            self._was_connected = True
            await self.announce()

    def _answer_within(self, spread_seconds: float) -> None:
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer(spread_seconds))

    async def stop(self) -> None:
        await end_tasks([self._answering])

    async def _answer(self, spread_seconds: float) -> None:
        await asyncio.sleep(_RANDOM.uniform(0, spread_seconds))
        await self.announce()

    def _beat(self, hardware: Hardware) -> JsonObject:
        beat = heartbeat(self._node_id, hardware, cpu_load(), self._memory.now())
        return beat.model_dump(mode="json", exclude_none=True)
