"""The life of one engine on this host: reserve, start, probe, ready, idle, crash, back off, fail."""

import asyncio
import time
from collections import deque

import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.vllm import StartProgress
from compute_common.tasks import end_tasks
from compute_common.times import utc_now
from vllm_orchestrator.engines.runtime import Engine
from vllm_orchestrator.instances import launch
from vllm_orchestrator.instances.promise import Promise
from vllm_orchestrator.instances.ranks import Ranks
from vllm_orchestrator.instances.record import LONGEST_ERROR, Record
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.instances.watch import STARTED_PERCENT, Watch

log = structlog.get_logger("engine")

CRASH_WINDOW_SECONDS = 600
FIRST_TRIES = 2  # an engine that was never ready is tried this often
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8)
LEDGER_PATIENCE_SECONDS = 30
LOG_LINES = 12
AWAY = frozenset({"no-responder", "no-answer"})  # what asking a host that is gone ends with
AWAY_SECONDS = 2


class Runner:
    """Supervises one record's engine in a task. Cancelling the task leaves the engine running."""

    def __init__(self, record: Record, tools: Tools, adopted: Engine | None = None) -> None:
        self.record = record
        self._tools = tools
        self._engine = adopted
        self._promise = Promise(record, tools)
        self._ranks = Ranks(record, tools)
        self._watch = Watch(record, tools, self._promise, self._ranks)
        self._crashes: deque[float] = deque()
        self._was_ready = adopted is not None and record.ready_at is not None
        self._task: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine | None:
        return self._engine

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"engine {self.record.instance_name}")

    async def leave(self) -> None:
        """Stop supervising; the engine goes on."""
        await end_tasks([self._task])

    async def stop(self, *, drain_seconds: float = 0) -> None:
        """End the engine's whole group, give its memory back; what is under way may be finished meanwhile."""
        await self.leave()
        await self._clear(drain_seconds)

    async def reserve(self, patience_seconds: float = 0) -> None:
        """Promise the record's memory to it. Raises the ledger's refusal."""
        await self._promise.reserve(patience_seconds)

    async def _run(self) -> None:
        try:
            await self._supervise()
        except Problem as problem:
            await self._fail(problem.detail)
        except OSError as error:
            await self._fail(f"the engine cannot be started: {error.strerror or type(error).__name__}")
        except Exception as error:
            log.exception("supervision failed", instance=self.record.instance_name)
            await self._fail(
                f"the orchestrator failed on this engine ({type(error).__name__}); its log says why"
            )

    async def _supervise(self) -> None:
        while True:
            try:
                reason = await self._one_life()
            except Problem as problem:
                if not self.record.ranks or problem.cause not in AWAY:
                    raise
                await self._wait_for_hosts(problem.detail)
                continue
            if reason is None:
                await self._fall_asleep()
                return
            lines = self._tools.files.tail(self.record.instance_name, LOG_LINES)
            await self._clear()
            if not self._try_again():
                await self._fail("\n".join([reason, *lines]))
                return
            await self._again(reason)

    async def _one_life(self) -> str | None:
        """From start to end, and why it ended; None when nobody needs it any more."""
        engine = self._engine
        if engine is None:
            try:
                engine = await self._start()
            except Problem as problem:
                again = problem.cause == "port-taken" or (self.record.ranks and problem.cause not in AWAY)
                if not again:
                    raise
                return problem.detail
        reason = await self._watch.until_ready(engine, first=not self._was_ready)
        if reason is not None:
            return reason
        await self._is_ready(engine)
        return await self._watch.until_exit(engine)

    async def _start(self) -> Engine:
        record, tools = self.record, self._tools
        if not self._promise.whole:
            await self._watch.phase("reserving", 0)
            await self.reserve(0 if record.ranks else LEDGER_PATIENCE_SECONDS)
        await tools.models.bring(record, self._waits)
        launch.give_port(record, tools)
        await launch.prepare(record, tools, self._waits)
        await self._watch.phase("starting", STARTED_PERCENT)
        await self._ranks.start()
        self._engine = await launch.start(record, tools)
        await self._promise.bind(self._engine)
        return self._engine

    async def _waits(self) -> None:
        """Its files are coming: keep what is promised, say how far they are."""
        await self._promise.hold()
        await self._tools.changed(self.record)

    async def _wait_for_hosts(self, reason: str) -> None:
        """Another host of it is away: hold nothing, and try again; one that stays away is replaced."""
        await self._clear()
        record, reason = self.record, reason[:LONGEST_ERROR]
        if record.status is not InstanceStatus.DEGRADED or record.last_error != reason:
            record.status, record.ready_at = InstanceStatus.DEGRADED, None
            record.went_wrong(reason, utc_now())
            record.progress = StartProgress(phase="waiting for a host")
            await self._tools.changed(record)
        await asyncio.sleep(AWAY_SECONDS)

    async def _is_ready(self, engine: Engine) -> None:
        record = self.record
        self._was_ready = True
        record.status = InstanceStatus.READY
        record.ready_at = record.ready_at or utc_now()
        record.progress = StartProgress(phase="ready", percent=100, bytes=await engine.resident_bytes())
        await engine.look()
        await self._tools.changed(record)

    async def _fall_asleep(self) -> None:
        """Nobody asked for `idle_timeout_seconds`: give the memory back until somebody does."""
        record = self.record
        record.status = InstanceStatus.STOPPING
        record.desired = "stopped"
        record.wakeable = True
        record.stop_reason = (
            f"nobody asked for {record.idle_timeout_seconds:g} s; the next request starts it again"
        )
        log.info("idle engine unloads", instance=record.instance_name)
        await self._tools.changed(record)
        await self._clear(self._tools.settings.engine_drain_seconds)
        record.status = InstanceStatus.STOPPED
        record.progress = None
        await self._tools.changed(record)

    def _try_again(self) -> bool:
        """Whether one more crash is within what is allowed."""
        now = time.monotonic()
        self._crashes.append(now)
        while self._crashes[0] < now - CRASH_WINDOW_SECONDS:
            self._crashes.popleft()
        allowed = self._tools.settings.engine_restarts
        return len(self._crashes) <= (allowed if self._was_ready else min(allowed, FIRST_TRIES - 1))

    async def _again(self, reason: str) -> None:
        record = self.record
        record.restarts += 1
        record.status = InstanceStatus.STARTING
        record.went_wrong(reason, utc_now())
        record.ready_at = None
        record.progress = StartProgress(phase="restarting", percent=0)
        log.warning("engine restarts", instance=record.instance_name, reason=reason, restarts=record.restarts)
        await self._tools.changed(record)
        await asyncio.sleep(BACKOFF_SECONDS[min(len(self._crashes), len(BACKOFF_SECONDS)) - 1])

    async def _fail(self, reason: str) -> None:
        try:
            await self._clear()
        except Problem as problem:  # its promise stays, and the next adoption ends it
            reason = f"{reason}\nand it could not be ended: {problem.detail}"
        record = self.record
        record.status = InstanceStatus.FAILED
        record.desired = "stopped"
        record.went_wrong(reason, utc_now())
        record.progress = StartProgress(phase="failed")
        log.error("instance failed", instance=record.instance_name, reason=reason[:300])
        await self._tools.changed(record)

    async def _clear(self, drain_seconds: float = 0) -> None:
        """Nothing left behind: no member of the group, no shared memory, no engine file, no reservation."""
        record, tools = self.record, self._tools
        limit = tools.settings.engine_stop_seconds
        if drain_seconds and self._engine is not None and await self._engine.alive():
            limit = await launch.drain(record, tools, drain_seconds)
        await asyncio.gather(launch.clear(record, tools, self._engine, limit), self._ranks.stop())
        self._engine = None
        await self._promise.release()
