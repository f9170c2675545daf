"""Node events fanned out to the listeners of the server-sent event stream."""

import asyncio
from collections.abc import AsyncIterator

from compute_common.event_frames import event_frame, next_frame
from compute_common.problems import unavailable

MOST_LISTENERS = 256
QUEUE_LENGTH = 1024


class EventStream:
    """A listener that does not keep up is cut off; it reads the list again and reconnects."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._sequence = 0

    def publish(self, kind: str, event: bytes) -> None:
        """Hand the event (one line of JSON) to every listener; never waits."""
        if not self._queues:
            return
        self._sequence += 1
        frame = f"id: {self._sequence}\n".encode() + event_frame(kind, event)
        for queue in list(self._queues):
            try:
                queue.put_nowait(frame)
            except asyncio.QueueFull:
                self._queues.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)

    def close(self) -> None:
        """End every stream."""
        for queue in self._queues:
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
        self._queues.clear()

    def listen(self) -> AsyncIterator[bytes]:
        """The frames from now on. Raises `Problem` 503 when too many listen already."""
        if len(self._queues) >= MOST_LISTENERS:
            raise unavailable("too-many-listeners", f"{MOST_LISTENERS} clients follow the events already")
        return self._frames(asyncio.Queue(QUEUE_LENGTH))

    async def _frames(self, queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        # Here, not before: of a client that is gone already this never begins, and would never end either.
        self._queues.add(queue)
        try:
            yield b": listening\n\n"
            while (frame := await next_frame(queue)) is not None:
                yield frame
        finally:
            self._queues.discard(queue)
