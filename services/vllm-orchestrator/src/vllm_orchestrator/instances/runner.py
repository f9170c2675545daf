"""The life of one engine on this host: reserve, start, probe, ready, crash, back off, fail."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import structlog

from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.gpu import ReserveRequest
from compute_common.schemas.vllm import Endpoints, StartProgress
from compute_common.tasks import end_tasks
from compute_common.times import utc_now
from compute_common.units import MIB
from vllm_orchestrator.engines import process as engines
from vllm_orchestrator.engines.files import EngineFile, EngineFiles
from vllm_orchestrator.engines.ports import free_port, is_free
from vllm_orchestrator.engines.probe import completes, healthy
from vllm_orchestrator.engines.process import EngineProcess
from vllm_orchestrator.instances.endpoints import endpoints_of
from vllm_orchestrator.instances.ledger import LEASE_SECONDS, LedgerClient
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.settings import Settings

log = structlog.get_logger("engine")

POLL_SECONDS = 0.2
HEALTH_EVERY_SECONDS = 5
UNHEALTHY_AFTER = 3
CRASH_WINDOW_SECONDS = 600
FIRST_TRIES = 2  # an engine that was never ready is tried this often
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8)
LEDGER_PATIENCE_SECONDS = 30
RENEW_SECONDS = LEASE_SECONDS / 4
LOG_LINES = 12


@dataclass(frozen=True)
class Tools:
    """What every runner shares. `changed(record)` keeps the record and tells the cluster."""

    settings: Settings
    ledger: LedgerClient
    files: EngineFiles
    client: httpx.AsyncClient
    changed: Callable[[Record], Awaitable[None]]
    ports_taken: Callable[[], set[int]]


class Runner:
    """Supervises one record's engine in a task. Cancelling the task leaves the engine running."""

    def __init__(self, record: Record, tools: Tools, adopted: EngineProcess | None = None) -> None:
        self.record = record
        self._tools = tools
        self._process = adopted
        self._crashes: deque[float] = deque()
        self._was_ready = adopted is not None
        self._task: asyncio.Task[None] | None = None
        self._renew_at: float | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"engine {self.record.instance_name}")

    async def leave(self) -> None:
        """Stop supervising; the engine goes on."""
        await end_tasks([self._task])

    async def stop(self) -> None:
        """End the engine's whole group, give its memory back, forget its file."""
        await self.leave()
        await self._clear()

    async def reserve(self, patience_seconds: float = 0) -> None:
        """Promise the record's memory to it. Raises the ledger's refusal."""
        record = self.record
        place = record.placement[0]
        request = ReserveRequest(
            gpu_indices=place.gpu_indices,
            required_mb=place.reserved_mb,
            timeout_seconds=LEASE_SECONDS,
            owner=record.owner or f"instance:{record.instance_name}",
            model_name=record.model_name,
            idempotency_key=f"{record.instance_name}:{record.created_at.timestamp()}:{record.epoch}",
        )
        record.reservation_id = await self._tools.ledger.reserve(request, patience_seconds)

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
            if self._process is None:
                self._process = await self._start()
            reason = await self._until_ready(self._process)
            if reason is None:
                await self._is_ready(self._process)
                reason = await self._until_exit(self._process)
            lines = self._tools.files.tail(self.record.instance_name, LOG_LINES)
            await self._clear()
            if not self._try_again():
                await self._fail("\n".join([reason, *lines]))
                return
            await self._again(reason)

    async def _start(self) -> EngineProcess:
        record = self.record
        if record.reservation_id is None:
            await self._phase("reserving", 0)
            await self.reserve(LEDGER_PATIENCE_SECONDS)
        self._give_port()
        await self._phase("starting", 5)
        log_file = self._tools.files.log(record.instance_name)
        process = engines.spawn(record.command, record.environment, log_file)
        self._process = process
        record.pid, record.start_time = process.pid, process.start_time
        self._tools.files.write(
            EngineFile(
                record.instance_name,
                process.pid,
                process.start_time,
                record.port or 0,
                record.command,
                record.epoch,
            )
        )
        log.info("engine started", instance=record.instance_name, pid=process.pid, port=record.port)
        await self._bind(process)
        return process

    def _give_port(self) -> None:
        """The port it had, when that is free; else another, in the argv and the endpoints too."""
        record, settings = self.record, self._tools.settings
        taken = self._tools.ports_taken()
        port = record.port
        if port is None or port in taken or not is_free(settings.engine_bind, port):
            port = free_port(settings.engine_bind, settings.port_range, taken)
        record.port = port
        at = record.command.index("--port") + 1
        record.command = [*record.command[:at], str(port), *record.command[at + 1 :]]
        record.endpoints = endpoints_of(settings.advertise_host, port)

    async def _bind(self, process: EngineProcess) -> None:
        """At once, not when it is ready: a loading engine would be counted beside its own reservation."""
        if self.record.reservation_id is None:
            return
        try:
            await self._tools.ledger.bind(self.record.reservation_id, process.pid, process.start_time)
        except Problem as problem:
            if not engines.alive(process):
                return  # the exit is the news, not the bind
            if problem.cause == "no-such-process" or problem.status not in (404, 409):
                # The ledger may live in a container of its own and see other pids: renew instead of binding.
                log.warning("not bound, renewing", instance=self.record.instance_name, cause=problem.cause)
                self._renew_at = time.monotonic() + RENEW_SECONDS
                return
            self.record.epoch += 1  # an expired promise: ask anew
            await self.reserve()
            await self._tools.ledger.bind(self.record.reservation_id, process.pid, process.start_time)

    async def _keep_promise(self) -> None:
        """Renew a reservation that could not be bound."""
        reservation = self.record.reservation_id
        if self._renew_at is None or reservation is None or time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_SECONDS
        try:
            await self._tools.ledger.renew(reservation)
        except Problem as problem:
            log.warning("not renewed", instance=self.record.instance_name, cause=problem.cause)

    async def _until_ready(self, process: EngineProcess) -> str | None:
        """None once it is healthy and completed a token; else why it will not be."""
        record = self.record
        deadline = time.monotonic() + self._tools.settings.engine_start_seconds
        await self._phase("loading", None)
        loopback = self._own_endpoints()
        while time.monotonic() < deadline:
            if not engines.alive(process):
                return "the engine exited before it was ready"
            if await healthy(self._tools.client, loopback.health or ""):
                await self._phase("probing", 95)
                refusal = await completes(self._tools.client, loopback.api or "", record.instance_name)
                if refusal is None and engines.alive(process):
                    return None
                if refusal is not None and engines.alive(process):
                    return refusal
            else:
                record.progress = self._loading(process)
            await self._keep_promise()
            await asyncio.sleep(POLL_SECONDS)
        return f"the engine was not ready within {self._tools.settings.engine_start_seconds:g} s"

    def _own_endpoints(self) -> Endpoints:
        host = self._tools.settings.engine_bind
        return endpoints_of("127.0.0.1" if host in ("0.0.0.0", "") else host, self.record.port or 0)  # noqa: S104

    def _loading(self, process: EngineProcess) -> StartProgress:
        """How much of the weights is resident: the one thing that can be seen while it loads."""
        resident = engines.resident_bytes(process)
        weights = max(1, self.record.memory.weights_mb * MIB)
        return StartProgress(
            phase="loading", percent=round(min(90.0, 90 * resident / weights), 1), bytes=resident
        )

    async def _is_ready(self, process: EngineProcess) -> None:
        record = self.record
        self._was_ready = True
        record.status = InstanceStatus.READY
        record.ready_at = record.ready_at or utc_now()
        record.progress = StartProgress(phase="ready", percent=100, bytes=engines.resident_bytes(process))
        await self._tools.changed(record)

    async def _until_exit(self, process: EngineProcess) -> str:
        """Watch until the process is gone; say `degraded` while its health does not answer."""
        misses = 0
        looked = time.monotonic()
        while engines.alive(process):
            await self._keep_promise()
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() - looked < HEALTH_EVERY_SECONDS:
                continue
            looked = time.monotonic()
            self._tools.files.bound_log(self.record.instance_name)
            well = await healthy(self._tools.client, self._own_endpoints().health or "")
            misses = 0 if well else misses + 1
            await self._follow_health(well, misses)
        return "the engine exited unasked"

    async def _follow_health(self, well: bool, misses: int) -> None:
        record = self.record
        if well and record.status is InstanceStatus.DEGRADED:
            record.status = InstanceStatus.READY
            await self._tools.changed(record)
        elif misses >= UNHEALTHY_AFTER and record.status is InstanceStatus.READY:
            record.status = InstanceStatus.DEGRADED
            record.last_error = "the engine runs but its health does not answer"
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
        record.epoch += 1
        record.status = InstanceStatus.STARTING
        record.last_error = reason
        record.ready_at = None
        record.progress = StartProgress(phase="restarting", percent=0)
        log.warning("engine restarts", instance=record.instance_name, reason=reason, restarts=record.restarts)
        await self._tools.changed(record)
        await asyncio.sleep(BACKOFF_SECONDS[min(len(self._crashes), len(BACKOFF_SECONDS)) - 1])

    async def _fail(self, reason: str) -> None:
        await self._clear()
        record = self.record
        record.status = InstanceStatus.FAILED
        record.desired = "stopped"
        record.last_error = reason[:4000]
        record.progress = StartProgress(phase="failed")
        log.error("instance failed", instance=record.instance_name, reason=reason[:300])
        await self._tools.changed(record)

    async def _clear(self) -> None:
        """Nothing left behind: no member of the group, no reservation, no engine file."""
        record = self.record
        if self._process is not None:
            await engines.end(self._process, self._tools.settings.engine_stop_seconds)
            self._process = None
        self._tools.files.remove(record.instance_name)
        if record.reservation_id is not None:
            await self._tools.ledger.release(record.reservation_id)
        self._renew_at = None
        record.reservation_id = record.pid = record.start_time = None

    async def _phase(self, phase: str, percent: float | None) -> None:
        self.record.progress = StartProgress(phase=phase, percent=percent)
        if not (self._was_ready and phase == "loading"):
            await self._tools.changed(self.record)
