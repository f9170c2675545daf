"""Instance records for hosts whose NATS account has no JetStream: each reads and writes its own, and no more.

A question comes on `compute.node.<id>.instances`, which that host's account alone can reach.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable

from nats.js.errors import KeyWrongLastSequenceError

from compute_common import subjects, wire_json
from compute_common.bus import Bus, Message
from compute_common.problems import Problem, invalid
from compute_common.schemas.vllm import Endpoints
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.record_asks import Ask, Found, Kept, Listing
from vllm_orchestrator.instances.table import Bucket, InstanceTable

QUEUE = "vllm-orchestrator"
ASKS_PER_SECOND = 20
MAX_RECORDS = 256
MAX_RECORD_BYTES = 128 << 10


class RecordDesk:
    """Any orchestrator of the shared account answers."""

    def __init__(self, bus: Bus, table: InstanceTable, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._table = table
        self._clock = clock
        self._second_began = 0.0
        self._asks: Counter[str] = Counter()

    async def serve(self) -> None:
        await self._bus.subscribe_family("compute.node.*.instances", self._asked, QUEUE)

    async def _asked(self, subject: str, body: Message) -> object:
        node_id = subjects.speaker(subject)
        if not self._may_ask(node_id):
            raise Problem(429, "asked-too-often", f"{ASKS_PER_SECOND} questions a second are answered")
        ask = Ask.model_validate(body)
        bucket = await self._table.bucket()
        if ask.verb == "list":
            return Listing(records=await self._own(node_id))
        if ask.name is None:
            raise invalid("`name` says which instance")
        there, revision = await bucket.look_up(ask.name)
        if ask.verb == "get":
            return Found(record=there and seen_by(node_id, there), revision=revision)
        if ask.last not in (None, revision):
            return Kept(revision=None)  # so that what was looked at is what is written over
        if there is not None and there.node_id != node_id:
            if ask.verb == "put" and ask.last is None:
                return Kept(revision=None)  # the name is taken
            raise _foreign(node_id)
        if ask.verb == "delete":
            return await _written(bucket.delete(subjects.token(ask.name), revision), revision)
        return await self._put(bucket, node_id, ask)

    def _may_ask(self, node_id: str) -> bool:
        """One that floods is not answered, so that the others are."""
        now = self._clock()
        if now - self._second_began >= 1:
            self._second_began = now
            self._asks.clear()
        self._asks[node_id] += 1
        return self._asks[node_id] <= ASKS_PER_SECOND

    async def _own(self, node_id: str) -> list[Found]:
        await self._table.refresh()
        names = [record.instance_name for record in self._table.all() if record.node_id == node_id]
        bucket = await self._table.bucket()
        found = [await bucket.look_up(name) for name in names[:MAX_RECORDS]]
        return [Found(record=record, revision=revision) for record, revision in found]

    async def _put(self, bucket: Bucket, node_id: str, ask: Ask) -> Kept:
        record = ask.record
        if record is None or record.instance_name != ask.name:
            raise invalid("`record` must be that of `name`")
        must_be_its_own(node_id, record)
        value = wire_json.dump(record)
        if len(value) > MAX_RECORD_BYTES:
            raise Problem(413, "record-too-large", f"a record has {MAX_RECORD_BYTES} bytes at most")
        own = sum(each.node_id == node_id for each in self._table.all())
        if ask.last is None and own >= MAX_RECORDS:
            raise Problem(429, "too-many-instances", f"a host has {MAX_RECORDS} instances at most")
        key = subjects.token(ask.name)
        writing = bucket.create(key, value) if ask.last is None else bucket.update(key, value, ask.last)
        return await _written(writing, 0)


def must_be_its_own(node_id: str, record: Record) -> None:
    """Problem 403 for a record that speaks of another host: one that may be written runs there alone."""
    places = {record.node_id, *(place.node_id for place in record.placement), *record.reservations}
    if places != {node_id} or record.ranks or not set(record.reservations) <= {node_id}:
        raise _foreign(node_id)


def seen_by(node_id: str, record: Record) -> Record:
    """Its own as it is; of another host's that the name is taken, and by what."""
    if record.node_id == node_id:
        return record
    hidden: dict[str, object] = {
        "request": {},
        "environment": {},
        "ranks": [],
        "reservations": {},
        "endpoints": Endpoints(),
    }
    closed: dict[str, object] = {
        "command": [],
        "config": {},
        "docker_compose": {},
        "explanation": "",
        "container_id": None,
    }
    return record.model_copy(update={**hidden, **closed, "reservation_key": None})


def _foreign(node_id: str) -> Problem:
    return Problem(403, "foreign-node", f"'{node_id}' may write records of its own alone")


async def _written(writing: Awaitable[int | None], before: int) -> Kept:
    try:
        return Kept(revision=await writing or before)
    except KeyWrongLastSequenceError:
        return Kept(revision=None)
