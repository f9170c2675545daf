"""The overview for those who look: made at most once a second for all listeners together."""

import asyncio
import time
from collections.abc import AsyncIterator

from compute_common.event_frames import event_frame, next_frame
from compute_common.problems import unavailable
from compute_common.tasks import end_tasks, every
from compute_common.times import utc_now
from node_registry.status.document import Document, Lines, document
from node_registry.status.watch import Watch
from node_registry.table import NodeTable

MOST_LISTENERS = 64
WAITING_CHANGES = 4
SECONDS = 1.0
RETRY = b"retry: 1000\n\n"
LONGEST_STREAM_SECONDS = 900.0  # then it is opened anew, with a key that is still good
# A document may be asked for as often as anybody likes, but making it takes a tenth of the time at most.
KEPT_FOR_COSTS = 10
LONGEST_KEPT_SECONDS = 5.0


class Feed:
    """A listener that does not keep up is given the whole document again instead of what it missed."""

    def __init__(self, table: NodeTable, watch: Watch) -> None:
        self._table = table
        self._watch = watch
        self._lines = Lines()
        self._made: Document | None = None
        self._good_until = 0.0
        self._sent: Document | None = None
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(every(SECONDS, self._publish), name="overview feed")

    async def stop(self) -> None:
        await end_tasks([self._task])
        for queue in self._listeners:
            _replace(queue, None)
        self._listeners.clear()

    async def now(self) -> Document:
        """The overview, gathered."""
        await self._watch.look()
        return self._document()

    async def listen(self) -> AsyncIterator[bytes]:
        """Frames: an `overview`, then `changes`. Raises `Problem` 503 when too many listen already."""
        if len(self._listeners) >= MOST_LISTENERS:
            raise unavailable("too-many-listeners", f"{MOST_LISTENERS} follow already; ask /api/v1/overview")
        await self._watch.look()
        return self._frames()

    async def _frames(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_CHANGES)
        if self._sent is None:
            self._sent = self._document()
        queue.put_nowait(RETRY + event_frame("overview", self._sent.whole()))
        self._listeners.add(queue)  # here, not before: frames that nobody ever asks for hold no place
        end = time.monotonic() + LONGEST_STREAM_SECONDS
        try:
            while time.monotonic() < end and (frame := await next_frame(queue)) is not None:
                yield frame
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                self._sent = None

    async def _publish(self) -> None:
        if not self._listeners:
            return
        await self._watch.look()
        old, new = self._sent, self._document()
        self._sent = new
        changes = new.since(old) if old is not None else new.whole()
        if changes is None:
            return
        frame = event_frame("changes" if old is not None else "overview", changes)
        whole: bytes | None = None
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(frame)
                continue
            whole = whole or event_frame("overview", new.whole())
            _replace(queue, whole)

    def _document(self) -> Document:
        began = time.monotonic()
        if self._made is None or began >= self._good_until:
            rows = list(self._table.rows())
            self._made = document(rows, self._table.instances(), self._watch.around(), self._lines, utc_now())
            done = time.monotonic()
            self._good_until = done + min(LONGEST_KEPT_SECONDS, KEPT_FOR_COSTS * (done - began))
        return self._made


def _replace(queue: asyncio.Queue[bytes | None], frame: bytes | None) -> None:
    """`frame` in place of all that waits."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(frame)
