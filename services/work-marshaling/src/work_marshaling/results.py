"""Large results live in the object store, where they expire; the log keeps the small ones."""

import asyncio
from typing import Any

import structlog

from compute_common import wire_json
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from compute_common.problems import Problem, unavailable
from compute_common.tasks import end_tasks
from work_marshaling.events import Record
from work_marshaling.items import Item
from work_marshaling.leader import Leader
from work_marshaling.log_writer import Bodies
from work_marshaling.object_store import FAILURES, Bucket

log = structlog.get_logger("results")

INLINE_BYTES = 256 << 10
AT_A_TIME = 4


class Results:
    """`bucket` keeps objects as long as ended items stay readable."""

    def __init__(self, bus: Bus, bodies: Bodies, bucket: Bucket, leader: Leader) -> None:
        self._bus = bus
        self._bodies = bodies
        self._bucket = bucket
        self._leader = leader
        self._limit = asyncio.Semaphore(AT_A_TIME)
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        await end_tasks(self._tasks)

    def follow(self, item: Item, record: Record) -> None:
        """A completion was recorded: move its result when it is large, and this one leads."""
        if len(record.body) > INLINE_BYTES and item.result_seq == record.seq and self._leader.leading:
            task = asyncio.create_task(self._move(item, record))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def read(self, item: Item) -> Any:
        """The result; None where the item has none. `Problem` 503 while it cannot be read."""
        if item.result_object is not None:
            try:
                data = await self._bucket.get(item.result_object)
            except FAILURES as error:
                raise unavailable("result-unavailable", "the result cannot be read now; try again") from error
            return wire_json.parse(data) if data else None
        if item.result_seq is None:
            return None
        body = await self._bodies.read(item.result_seq)
        return body.get("result") if body else None

    async def _move(self, item: Item, record: Record) -> None:
        """Store, decide, and only then delete: what is interrupted leaves the result where it was."""
        async with self._limit:
            name = f"{record.seq}"
            try:
                result = wire_json.parse_object(record.body).get("result")
                await self._bucket.put(name, wire_json.dump(result))
                store = {
                    "work_id": item.work_id,
                    "node_id": item.last_node,
                    "attempt": item.attempt,
                    "object_name": name,
                }
                if await self._leader.decide({"decision": "store", "store": store}):
                    await self._bus.jetstream().delete_msg(WORK_STREAM, record.seq)
            except (*FAILURES, Problem) as error:
                log.warning("a result stays in the log", work_id=item.work_id, reason=type(error).__name__)
