"""Telling those who wait: long polls for a final state, and the stream of changes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from compute_common import wire_json
from compute_common.event_frames import event_frame, next_frame
from work_marshaling.outcome import Outcome

QUEUE_LIMIT = 1000


class Feed:
    def __init__(self) -> None:
        self._finals: dict[str, set[asyncio.Future[None]]] = {}
        self._watchers: set[asyncio.Queue[bytes | None]] = set()

    def publish(self, outcome: Outcome, at: float) -> None:
        """Pass one outcome of the fold on."""
        item = outcome.item
        if item is None or outcome.event == "ignored":
            return
        if item.status.final:
            for waiter in self._finals.pop(item.work_id, ()):
                if not waiter.done():
                    waiter.set_result(None)
        if self._watchers:
            self._tell(outcome, at)

    async def final(self, work_id: str, timeout_seconds: float) -> None:
        """Return when the item ends, or when the time is over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finals.setdefault(work_id, set()).add(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_seconds)
        except TimeoutError:
            pass
        finally:
            waiting = self._finals.get(work_id)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._finals[work_id]

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events; one who reads too slowly is cut off and may come again."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_LIMIT)
        self._watchers.add(queue)
        try:
            yield b": work events\n\n"
            while (chunk := await next_frame(queue)) is not None:
                yield chunk
        finally:
            self._watchers.discard(queue)

    def close(self) -> None:
        """Let everybody go."""
        for waiters in self._finals.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
        for queue in self._watchers:
            _put(queue, None)

    def _tell(self, outcome: Outcome, at: float) -> None:
        item = outcome.item
        if item is None:
            return
        data = {
            "event": outcome.event,
            "work_id": item.work_id,
            "status": item.status,
            "work_type": item.demand.work_type,
            "model_name": item.demand.model,
            "node_id": item.holder or item.last_node,
            "attempt": item.attempt,
            "timestamp": datetime.fromtimestamp(at, UTC),
        }
        chunk = event_frame(outcome.event, wire_json.dump(data))
        for queue in list(self._watchers):
            _put(queue, chunk)


def _put(queue: asyncio.Queue[bytes | None], chunk: bytes | None) -> None:
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        chunk = None
    queue.put_nowait(chunk)
