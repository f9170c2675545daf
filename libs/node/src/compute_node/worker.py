"""The worker SDK: handlers for work types, run as many at a time as there are slots.

worker = Worker("my-node", nats_url="nats://127.0.0.1:4222", announce=True)

@worker.handles("render")
async def render(job: Job) -> object:
    return {"frames": job.payload["frames"]}

asyncio.run(worker.run())
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from nats.aio.msg import Msg
from pydantic import SecretStr, ValidationError

from compute_common import subjects, tracing, wire_json
from compute_common.bus import Bus, Message
from compute_common.bus_auth import NatsSettings
from compute_common.ids import check_identifier
from compute_common.schemas.work import Assignment, Cancelled
from compute_node.admission import Admission
from compute_node.confirmation import Confirmation
from compute_node.job import Handler, Job, WorkError
from compute_node.presence import Presence
from compute_node.renewal import Renewal
from compute_node.reports import Reports, UnreportableError

log = structlog.get_logger("worker")

HAND_BACK_SECONDS = 1.0


class Worker:
    """`announce` makes this a node of its own; without it the host's resource detector is the node.

    `grace_seconds` is how long `stop` waits for running items before it hands them back.
    """

    def __init__(
        self,
        node_id: str,
        *,
        nats_url: str | None = None,
        settings: NatsSettings | None = None,
        concurrency: int = 4,
        announce: bool = False,
        heartbeat_seconds: float = 5.0,
        grace_seconds: float = 2.0,
        labels: dict[str, str] | None = None,
        managed: bool = False,
    ) -> None:
        self.node_id = check_identifier(node_id)
        settings = settings or NatsSettings()
        if nats_url is not None:
            settings = settings.model_copy(update={"nats_url": SecretStr(nats_url)})
        name = node_id if announce else f"compute-node@{node_id}"
        self.bus = Bus(settings, name)
        self.presence = Presence(
            self.bus,
            node_id,
            slots=concurrency,
            announce=announce,
            heartbeat_seconds=heartbeat_seconds,
            labels=labels or {},
            managed=managed,
        )
        self._mark = f'"{node_id}"'.encode()
        self._reports = Reports(self.bus, node_id)
        self._admission = Admission(node_id)
        self._confirmation = Confirmation(self.bus, node_id)
        self._handlers: dict[str, Handler] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._running: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._grace_seconds = grace_seconds
        self._leaving = False

    def handles(self, *work_types: str) -> Callable[[Handler], Handler]:
        """Register a coroutine function for work types (compared ignoring case)."""

        def register(handler: Handler) -> Handler:
            for work_type in work_types:
                self._handlers[work_type.lower()] = handler
            return handler

        return register

    @property
    def active_jobs(self) -> int:
        return len(self._running)

    # --- life

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT, then finish or hand back what runs."""
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, ended.set)
        await self.start()
        try:
            await ended.wait()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Connect and take work; NATS may come later."""
        self.bus.on_connect(self._connected)
        await self.bus.subscribe_raw(subjects.WORK_ASSIGNED, self._heard)
        await self.bus.subscribe(subjects.node_subject(self.node_id, "assigned"), self._assigned)
        await self.bus.subscribe(subjects.WORK_CANCELLED, self._cancelled)
        await self.bus.subscribe(subjects.node_subject(self.node_id, "cancelled"), self._cancelled)
        self.presence.work_types = sorted(self._handlers)
        self.presence.active_jobs = lambda: self.active_jobs
        await self.presence.start()
        self.bus.start()

    async def stop(self) -> None:
        """Take no more work, finish what can be finished in the grace time, hand back the rest."""
        self._leaving = True
        await self.presence.leave()
        await _settle(self._running.values(), self._grace_seconds)
        await _settle(self._running.values(), HAND_BACK_SECONDS, cancel=True)
        await _settle(self._background, HAND_BACK_SECONDS)
        await _settle(self._background, HAND_BACK_SECONDS, cancel=True)
        await self.presence.stop()
        await self.bus.stop()

    async def _connected(self) -> None:
        self._admission.forget_epoch()

    # --- assignments

    async def _heard(self, msg: Msg) -> None:
        """Everybody hears every assignment: those of others are dropped before they are parsed."""
        if self._mark in msg.data:
            try:
                message = wire_json.parse_object(msg.data)
            except ValueError:
                log.warning("an assignment is not a JSON object")
                return
            with tracing.span(msg.subject, msg.headers):
                await self._assigned(message)

    async def _assigned(self, message: Message) -> None:
        if message.get("node_id") != self.node_id:
            return
        try:
            item = Assignment.model_validate(message)
        except ValidationError:
            log.warning("an assignment cannot be read", work_id=str(message.get("work_id"))[:128])
            return
        if item.session not in (None, self.presence.session):
            return  # given to an earlier run under this id; the marshaler gives it again
        if self._admission.is_doubted(item.node_id, item.work_id, item.attempt, item.epoch):
            self._spawn(self._doubt(item))
            return
        self._take(item)

    async def _doubt(self, item: Assignment) -> None:
        """A higher epoch was heard before: the queue itself says which of the two is its leader's."""
        names = {"work_id": item.work_id, "epoch": item.epoch}
        if not await self._confirmation.holds(item):
            log.info("an assignment with an older epoch is dropped", **names)
            return
        log.warning("an epoch that was heard is not the queue's; its own counts again", **names)
        self._admission.believe(item.epoch)
        self._take(item)

    def _take(self, item: Assignment) -> None:
        """Run it, each attempt once; while leaving, hand it back."""
        if not self._admission.admit(item.node_id, item.work_id, item.attempt, item.epoch):
            return
        if self._leaving:
            self._spawn(self._hand_back(item))
            return
        if item.attempt > 1:
            self._stop_older(item)
        key = (item.work_id, item.attempt)
        task = asyncio.create_task(self._attempt(item), name=f"work {item.work_id}")
        self._running[key] = task
        task.add_done_callback(lambda _task: self._running.pop(key, None))

    def _stop_older(self, item: Assignment) -> None:
        """A newer attempt of the same item replaces one that still runs here."""
        for (work_id, attempt), task in list(self._running.items()):
            if work_id == item.work_id and attempt < item.attempt:
                task.cancel("replaced")

    async def _cancelled(self, message: Message) -> None:
        cancelled = Cancelled.model_validate(message)
        for (work_id, _), task in list(self._running.items()):
            if work_id == cancelled.work_id and cancelled.node_id in (None, self.node_id):
                task.cancel("cancelled")

    async def _attempt(self, item: Assignment) -> None:
        """Run the handler and report. A cancelled item is not reported, one interrupted by the end of this
        program is handed back."""
        renewal = Renewal(lambda: self._reports.progress(item.work_id, item.attempt))
        try:
            async with self._slots:
                await self._run_and_report(item)
        except asyncio.CancelledError:
            if self._leaving:
                self._spawn(self._hand_back(item))
        finally:
            renewal.stop()

    async def _run_and_report(self, item: Assignment) -> None:
        try:
            async with asyncio.timeout(item.timeout_seconds):
                with tracing.span(f"work {item.work_type}", tracing.stamped(), "internal"):
                    log.debug("an attempt begins", work_id=item.work_id, attempt=item.attempt)
                    result = await self._handle(item)
            await self._reports.completed(item.work_id, item.attempt, result)
        except UnreportableError as error:
            await self._failed(item, str(error), retryable=False)
        except WorkError as error:
            await self._failed(item, str(error), retryable=error.retryable)
        except TimeoutError:
            await self._failed(item, f"not done within {item.timeout_seconds:g} s", retryable=True)
        except Exception as error:
            log.exception("a handler failed", work_id=item.work_id, work_type=item.work_type)
            await self._failed(item, f"{type(error).__name__}: {error}", retryable=True)

    async def _handle(self, item: Assignment) -> Any:
        handler = self._handlers.get(item.work_type.lower())
        if handler is None:
            raise WorkError(f"this node has no handler for '{item.work_type}'")

        async def report(progress: Any) -> None:
            await self._reports.progress(item.work_id, item.attempt, progress)

        return await handler(
            Job(
                work_id=item.work_id,
                work_type=item.work_type,
                attempt=item.attempt,
                payload=item.payload,
                model_name=item.model_name,
                metadata=item.metadata,
                timeout_seconds=item.timeout_seconds,
                traceparent=(tracing.stamped() or {}).get(tracing.HEADER),
                _report=report,
            )
        )

    async def _failed(self, item: Assignment, error: str, *, retryable: bool) -> None:
        await self._reports.failed(item.work_id, item.attempt, error, retryable=retryable)

    async def _hand_back(self, item: Assignment) -> None:
        await self._reports.failed(item.work_id, item.attempt, "node is leaving", leaving=True)

    def _spawn(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _settle(tasks: Iterable[asyncio.Task[None]], seconds: float, *, cancel: bool = False) -> None:
    """Wait for the tasks, told to stop first with `cancel`, as long as that."""
    waiting = list(tasks)
    for task in waiting:
        if cancel:
            task.cancel()
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
