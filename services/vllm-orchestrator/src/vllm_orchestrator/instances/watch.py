"""Looking at one engine: while it loads, while it serves, until it ends or nobody needs it."""

import asyncio
import time

from compute_common.enums import InstanceStatus
from compute_common.schemas.vllm import Endpoints, StartProgress
from compute_common.times import utc_now
from compute_common.units import MIB
from vllm_orchestrator.engines.activity import ask_activity
from vllm_orchestrator.engines.probe import completes, healthy
from vllm_orchestrator.engines.runtime import Engine
from vllm_orchestrator.instances import launch
from vllm_orchestrator.instances.endpoints import endpoints_of
from vllm_orchestrator.instances.promise import Promise
from vllm_orchestrator.instances.ranks import Ranks
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.tools import Tools

POLL_SECONDS = 0.2
HEALTH_EVERY_SECONDS = 5
UNHEALTHY_AFTER = 3
TELL_PROGRESS_SECONDS = 1
STARTED_PERCENT = 5.0


class Watch:
    """Keeps the record's status, progress and idle time true."""

    def __init__(self, record: Record, tools: Tools, promise: Promise, ranks: Ranks) -> None:
        self._record = record
        self._tools = tools
        self._promise = promise
        self._ranks = ranks
        self._first = True
        self._loaded = STARTED_PERCENT
        self._misses = 0
        self._done: float | None = None  # what the engine had done at the last look

    async def phase(self, phase: str, percent: float | None) -> None:
        """Say how far a start has come."""
        self._record.progress = StartProgress(phase=phase, percent=percent)
        await self._tools.changed(self._record)

    async def until_ready(self, engine: Engine, *, first: bool) -> str | None:
        """None once it is healthy and completed a token; else why it will not be."""
        self._first = first
        self._loaded = STARTED_PERCENT
        started = time.monotonic()
        limit = self._tools.settings.engine_start_seconds
        if first:
            await self.phase("loading", None)
        told = 0.0
        while time.monotonic() < started + limit:
            if not await engine.alive():
                return "the engine exited before it was ready"
            if lost := await self._ranks.lost():
                return lost
            if await healthy(self._tools.client, self._endpoints().health or ""):
                return await self._probe(engine)
            self._record.progress = await self._loading(engine)
            if time.monotonic() - told > TELL_PROGRESS_SECONDS:
                told = time.monotonic()
                await self._tools.tell(self._record)
            await self._promise.keep()
            await asyncio.sleep(POLL_SECONDS)
        return f"the engine was not ready within {limit:g} s"

    async def until_exit(self, engine: Engine) -> str | None:
        """Why it ended unasked; None when nobody asked it for as long as `idle_timeout_seconds`."""
        self._misses, self._done = 0, None
        used = looked = time.monotonic()
        while await engine.alive():
            await self._promise.keep()
            await asyncio.sleep(POLL_SECONDS)
            if lost := await self._ranks.lost():
                return lost
            if time.monotonic() - looked < self._look_seconds():
                continue
            looked = time.monotonic()
            await self._look(engine)
            used = looked if await self._at_work() else used
            self._record.idle_seconds = round(time.monotonic() - used, 1)
            if self._is_unused():
                return None
        return "the engine exited unasked"

    async def _probe(self, engine: Engine) -> str | None:
        if self._first:
            await self.phase("probing", 95)
        api = self._endpoints().api or ""
        refusal = await completes(self._tools.client, api, self._record.instance_name)
        return refusal if await engine.alive() else "the engine exited at its first completion"

    async def _loading(self, engine: Engine) -> StartProgress:
        """How much of the weights is resident: the one thing that can be seen while it loads.

        Never less than before: mapped pages come and go while they are copied.
        """
        resident = await engine.resident_bytes()
        weights = max(1, self._record.memory.weights_mb * MIB)
        self._loaded = max(self._loaded, round(min(90.0, 90 * resident / weights), 1))
        return StartProgress(phase="loading", percent=self._loaded, bytes=resident)

    def _look_seconds(self) -> float:
        timeout = self._record.idle_timeout_seconds
        return min(HEALTH_EVERY_SECONDS, timeout / 4) if timeout else HEALTH_EVERY_SECONDS

    async def _look(self, engine: Engine) -> None:
        record, tools = self._record, self._tools
        tools.files.bound_log(record.instance_name)
        await engine.look()
        well = await healthy(tools.client, self._endpoints().health or "")
        self._misses = 0 if well else self._misses + 1
        if well and record.status is InstanceStatus.DEGRADED:
            record.status = InstanceStatus.READY
            await tools.changed(record)
        elif self._misses >= UNHEALTHY_AFTER and record.status is InstanceStatus.READY:
            record.status = InstanceStatus.DEGRADED
            record.went_wrong("the engine runs but its health does not answer", utc_now())
            await tools.changed(record)

    async def _at_work(self) -> bool:
        """Whether it was asked since the last look; one that does not say counts as asked."""
        activity = await ask_activity(self._tools.client, self._endpoints().metrics or "")
        if activity is None:
            return True
        changed = self._done is not None and activity.done != self._done
        self._done = activity.done
        return changed or activity.under_way > 0

    def _is_unused(self) -> bool:
        timeout = self._record.idle_timeout_seconds
        return bool(timeout) and (self._record.idle_seconds or 0) >= (timeout or 0)

    def _endpoints(self) -> Endpoints:
        return endpoints_of(launch.own_host(self._record, self._tools), self._record.port or 0)
