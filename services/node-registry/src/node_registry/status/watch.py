"""Asks the neighbours over NATS, but only while somebody looks."""

import asyncio
import contextlib
import time
from typing import TypeVar

from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.gpu import MemoryWarning
from compute_common.tasks import end_tasks, every
from compute_common.times import utc_now
from node_registry.status.alerts import MemoryAlerts
from node_registry.status.document import Around
from node_registry.status.heard import (
    Heard,
    InstancesAnswer,
    StatesAnswer,
    shown_gpus,
    shown_instances,
    to_ask,
)
from node_registry.status.models import Voice
from node_registry.status.throughput import Throughput
from node_registry.table import NodeTable

ROUND_SECONDS = 1.0
LOOKED_SECONDS = 10.0  # nobody looked for so long: nobody is asked
ANSWER_SECONDS = 0.5
FIRST_SECONDS = 0.6
Answer = TypeVar("Answer", bound=Wire)


class Watch:
    """What the registry does not hear by itself: the queue, GPUs in use, instances that failed."""

    def __init__(self, bus: Bus, table: NodeTable) -> None:
        self._bus = bus
        self._table = table
        self._alerts = MemoryAlerts()
        self._throughput = Throughput()
        self._heard: dict[str, Heard] = {}
        self._queue: JsonObject | None = None
        self._work = Voice.UNASKED
        self._looked_at = self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._bus.subscribe(subjects.GPU_MEMORY_WARNING, self._warned)
        self._task = asyncio.create_task(every(ROUND_SECONDS, self._round), name="overview")

    async def stop(self) -> None:
        await end_tasks([self._task])

    async def look(self) -> None:
        """Somebody looks: the first one waits a moment for answers, the next ones find them."""
        now = time.monotonic()
        self._looked_at = now
        if now - self._asked_at > 2 * ROUND_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._round(), FIRST_SECONDS)

    def around(self) -> Around:
        """What is known now."""
        if not self._bus.connected:
            self._forget()
        now = time.monotonic()
        return Around(
            heard=self._heard,
            nats=self._bus.connected,
            nats_detail=self._bus.detail,
            queue=self._queue,
            work=self._work,
            rate=self._throughput.rate(now),
            alerts=self._alerts.now(self._table.rows(), now),
        )

    async def _warned(self, body: Message) -> None:
        self._alerts.hear(MemoryWarning.model_validate(body), time.monotonic(), utc_now())

    async def _round(self) -> None:
        if time.monotonic() - self._looked_at > LOOKED_SECONDS:
            self._forget()
            return
        async with self._asking:
            if time.monotonic() - self._asked_at < ROUND_SECONDS / 2:
                return  # another who waited here has just asked
            await self._ask_all()
            self._asked_at = time.monotonic()

    async def _ask_all(self) -> None:
        if not self._bus.connected:
            self._forget()
            return
        now = time.monotonic()
        for node_id in [*self._heard]:
            row = self._table.row(node_id)
            if row is None or not row.is_online:
                del self._heard[node_id]
        await asyncio.gather(
            self._ask_queue(),
            *(self._ask_host(each) for each in to_ask(self._table.rows(), self._heard, now)),
        )

    def _forget(self) -> None:
        """Old answers are worse than none."""
        self._heard.clear()
        self._queue, self._work = None, Voice.UNASKED if self._bus.connected else Voice.SILENT

    async def _ask_queue(self) -> None:
        try:
            self._queue = await self._bus.request(subjects.WORK_STATUS, {}, ANSWER_SECONDS)
        except (Problem, ValueError) as error:
            self._queue, self._work = None, _voice_of(error)
            return
        self._work = Voice.ANSWERS
        self._throughput.read(self._queue, time.monotonic())

    async def _ask_host(self, node_id: str) -> None:
        at = time.monotonic()
        (ledger, states), (engines, instances) = await asyncio.gather(
            self._ask(subjects.gpu_subject("states", node_id), StatesAnswer),
            self._ask(subjects.vllm_subject("status", node_id), InstancesAnswer),
        )
        gpus, count = shown_gpus(states) if states else ((), 0)
        shown = shown_instances(node_id, instances) if instances else ()
        self._heard[node_id] = Heard(at, ledger, engines, gpus, count, shown)

    async def _ask(self, subject: str, model: type[Answer]) -> tuple[Voice, Answer | None]:
        try:
            answer = await self._bus.request(subject, {}, ANSWER_SECONDS)
            return Voice.ANSWERS, model.model_validate(answer)
        except (Problem, ValidationError) as error:
            return _voice_of(error), None


def _voice_of(error: Exception) -> Voice:
    absent = isinstance(error, Problem) and error.cause == "no-responder"
    return Voice.ABSENT if absent else Voice.SILENT
