"""Telling those who watch a run: server-sent events until it ends."""

import asyncio
from collections.abc import AsyncIterator

from compute_common import wire_json
from compute_common.event_frames import KEEP_ALIVE, KEEP_ALIVE_SECONDS, event_frame
from compute_common.schemas.benchmark import BenchmarkProgressEvent

QUEUE_LIMIT = 256
Queue = asyncio.Queue[BenchmarkProgressEvent | None]


class Feed:
    def __init__(self) -> None:
        self._watchers: dict[str, set[Queue]] = {}

    def publish(self, event: BenchmarkProgressEvent) -> None:
        """To everybody who watches that run; one who reads too slowly misses progress, never the end."""
        for queue in self._watchers.get(event.benchmark_id, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    def close(self) -> None:
        """Let everybody go."""
        for queues in self._watchers.values():
            for queue in queues:
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def events(self, first: BenchmarkProgressEvent) -> AsyncIterator[bytes]:
        """`first` is where the run stands; a run that has ended is told and that is all."""
        queue: Queue = asyncio.Queue(QUEUE_LIMIT)
        watchers = self._watchers.setdefault(first.benchmark_id, set())
        watchers.add(queue)
        try:
            event: BenchmarkProgressEvent | None = first
            while event is not None:
                yield _encoded(event)
                if event.status.final:
                    return
                while True:
                    try:
                        event = await asyncio.wait_for(queue.get(), KEEP_ALIVE_SECONDS)
                        break
                    except TimeoutError:
                        yield KEEP_ALIVE
        finally:
            watchers.discard(queue)
            if not watchers:
                self._watchers.pop(first.benchmark_id, None)


def _encoded(event: BenchmarkProgressEvent) -> bytes:
    name = "ended" if event.status.final else "cell" if event.cell is not None else "progress"
    return event_frame(name, wire_json.dump(event))
