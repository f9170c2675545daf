"""Reading the work log: every record once, in order, for ever; healed after whatever happens to NATS.

An ephemeral push consumer without acknowledgements, read by one callback. Its own sequence must grow by one
with each message: anything else is a gap, and the consumer is made again from the position after the last
record. So it is on every reconnect, and when the stream has grown and nothing came for a second.
What was purged before it was read can only come from a snapshot: then everything begins anew with one.
"""

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig, StreamInfo
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from compute_common.bus import Bus
from compute_common.jetstream import ensure_stream
from compute_common.problems import Problem
from compute_common.tasks import end_tasks
from compute_common.tracing import HEADER
from work_marshaling.events import Record

log = structlog.get_logger("work-log")

WATCH_SECONDS = 0.5
STALL_SECONDS = 1.0
TURN_SECONDS = 0.005
PENDING_BYTES = 512 << 20
FOLLOWS = "Nats-Expected-Last-Subject-Sequence"
FAILURES = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError)


class LogReader:
    """Calls `apply(record)` for every record after `position`.

    `begin(info)` is awaited at the start, and again when what was read is no longer the truth: the stream was
    made anew, or purged beyond `position`. It answers the position of the snapshot it began with, or 0.
    `arrived()` is called when the end of the log is reached.
    """

    def __init__(
        self,
        bus: Bus,
        stream: StreamConfig,
        apply: Callable[[Record], None],
        begin: Callable[[StreamInfo], Awaitable[int]],
        arrived: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._apply = apply
        self._begin = begin
        self._arrived = arrived
        self.position = 0
        self.created = ""
        self._jumped_from: int | None = None
        self.caught_up = False
        self._sub: Any = None
        self._generation = 0
        self._expected = 1
        self._progress_at = 0.0
        self._turn_began = 0.0
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap by sequence
        self._ticket = itertools.count()
        self._lock = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._bus.on_connect(self.rebuild)
        self._watching = asyncio.create_task(self._watch(), name="work-log-watch")

    async def stop(self) -> None:
        await end_tasks([self._watching])
        for _, _, waiter in self._waiters:
            waiter.cancel()

    async def reached(self, seq: int, timeout_seconds: float) -> bool:
        """Whether the record at `seq` was applied within the time."""
        if seq <= self.position:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (seq, next(self._ticket), waiter))
        try:
            await asyncio.wait_for(waiter, timeout_seconds)
        except TimeoutError:
            return False
        return True

    async def up_to_date(self, timeout_seconds: float) -> None:
        """Return once all that is in the log by now is applied, or when the time is over."""
        with contextlib.suppress(*FAILURES):
            info = await self._bus.jetstream(timeout_seconds).stream_info(str(self._stream.name))
            await self.reached(info.state.last_seq, timeout_seconds)

    # --- receiving

    async def _receive(self, generation: int, msg: Msg) -> None:
        if generation != self._generation:
            return
        if msg.headers and "Status" in msg.headers:
            await self._status(msg)
            return
        tokens = msg.reply.split(".")
        if len(tokens) > 9:  # with a domain and an account: two tokens more in front, a random one behind
            tokens = tokens[2:11]
        seq, consumer_seq = int(tokens[5]), int(tokens[6])
        if consumer_seq != self._expected:
            log.warning("gap in the work log", expected=self._expected, got=consumer_seq)
            self._generation += 1  # what still arrives of this consumer is out of order
            self.caught_up = False
            self._progress_at = 0.0
            return
        self._expected += 1
        self._progress_at = time.monotonic()
        if seq > self.position:
            if seq > self.position + 1 and self._jumped_from is None:
                self._jumped_from = self.position  # messages were deleted, or purged before they were read
            follows, trace = _follows(msg.headers), msg.headers.get(HEADER) if msg.headers else None
            self._apply(Record(seq, int(tokens[7]) / 1e9, msg.subject, msg.data, follows, trace))
            self._advance(seq)
        if tokens[8] == "0":
            self._arrive()
        if self._progress_at - self._turn_began >= TURN_SECONDS:
            await asyncio.sleep(0)  # thousands that wait in line let others in between
            self._turn_began = time.monotonic()

    def _arrive(self) -> None:
        if not self.caught_up:
            self.caught_up = True
            self._arrived()

    async def _status(self, msg: Msg) -> None:
        """Answer flow control; a stalled heartbeat carries the subject to answer on."""
        answer_to = msg.reply or (msg.headers or {}).get("Nats-Consumer-Stalled")
        if answer_to:
            with contextlib.suppress(nats.errors.Error):
                await self._bus.client.publish(answer_to, b"")

    def _advance(self, seq: int) -> None:
        self.position = max(self.position, seq)
        while self._waiters and self._waiters[0][0] <= self.position:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)

    # --- healing

    async def rebuild(self) -> None:
        """A fresh consumer from the record after `position`."""
        async with self._lock:
            self._generation += 1
            self.caught_up = False
            try:
                await self._drop()
                js = self._bus.jetstream()
                await ensure_stream(js, self._stream)
                last_seq = await self._check_identity(js)
                await self._subscribe(js, last_seq)
            except FAILURES as error:
                log.warning("the work log cannot be read yet", reason=type(error).__name__)

    async def _check_identity(self, js: JetStreamContext) -> int:
        """The stream's last sequence; all begins anew when what was read so far is not its beginning."""
        info = await js.stream_info(str(self._stream.name))
        created = str(info.created)
        another = created != self.created or info.state.last_seq < self.position
        read_up_to = self.position if self._jumped_from is None else self._jumped_from
        if another or info.state.first_seq > read_up_to + 1:
            if self.created:
                log.error("the work log was made anew or purged before it was read; beginning again")
            self.position = await self._begin(info)
        self.created, self._jumped_from = created, None
        return info.state.last_seq

    async def _subscribe(self, js: JetStreamContext, last_seq: int) -> None:
        generation = self._generation
        inbox = self._bus.client.new_inbox()

        async def receive(msg: Msg) -> None:
            await self._receive(generation, msg)

        self._expected = 1
        self._progress_at = time.monotonic()
        self._sub = await self._bus.client.subscribe(
            inbox, cb=receive, pending_msgs_limit=-1, pending_bytes_limit=PENDING_BYTES
        )
        info = await js.add_consumer(
            str(self._stream.name),
            ConsumerConfig(
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self.position + 1,
                ack_policy=AckPolicy.NONE,
                max_deliver=1,
                flow_control=True,
                idle_heartbeat=1.0,
                mem_storage=True,
                num_replicas=1,
                inactive_threshold=10.0,
            ),
        )
        if not info.num_pending and not (info.delivered and info.delivered.consumer_seq):
            self._advance(last_seq)  # nothing is left up to there: purged, deleted or read
            self._arrive()

    async def _drop(self) -> None:
        if self._sub is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._sub.unsubscribe()
            self._sub = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self._bus.connected:
                self.caught_up = False
                continue
            try:
                if await self._stalled():
                    await self.rebuild()
            except FAILURES:
                continue

    async def _stalled(self) -> bool:
        """Whether the stream is gone, was purged too early, or has more than was read and nothing came."""
        moving = time.monotonic() - self._progress_at < STALL_SECONDS and self._jumped_from is None
        if moving or self._lock.locked():
            return False
        try:
            info = await self._bus.jetstream(2.0).stream_info(str(self._stream.name))
        except NotFoundError:
            return True
        quiet = time.monotonic() - self._progress_at >= STALL_SECONDS
        behind = info.state.last_seq != self.position or str(info.created) != self.created
        jumped = self._jumped_from is not None and info.state.first_seq > self._jumped_from + 1
        self._jumped_from = self._jumped_from if jumped else None
        return jumped or (quiet and (behind or not self.caught_up))


def _follows(headers: dict[str, str] | None) -> int | None:
    """The sequence that the server compared before it took the message in; None when it was not asked to."""
    text = headers.get(FOLLOWS, "") if headers else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
