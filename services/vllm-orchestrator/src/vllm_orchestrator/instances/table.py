"""Every instance of the cluster, in memory and in the KV bucket COMPUTE_INSTANCES."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from nats.js.errors import KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.jetstream import INSTANCES_BUCKET, ensure_bucket
from compute_common.problems import Problem, unavailable
from compute_common.schemas.vllm import InstanceEvent
from vllm_orchestrator.instances.record import Record

log = structlog.get_logger("instances")


class InstanceTable:
    """Of this node's records memory is the truth and the bucket its copy; of others' the other way round."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._records: dict[str, Record] = {}
        self._unsaved: set[str] = set()
        self._lock = asyncio.Lock()

    def all(self) -> list[Record]:
        return sorted(self._records.values(), key=lambda record: record.instance_name)

    def own(self) -> list[Record]:
        return [record for record in self.all() if record.node_id == self._node_id]

    def get(self, name: str) -> Record | None:
        return self._records.get(name)

    def names(self) -> set[str]:
        return set(self._records)

    async def claim(self, record: Record) -> bool:
        """Take the name for the whole cluster; False when somebody has it. Problem 503 while NATS is away."""
        bucket = await self._bucket()
        try:
            await bucket.create(subjects.token(record.instance_name), wire_json.dump(record))
        except KeyWrongLastSequenceError:
            return False
        self._records[record.instance_name] = record
        return True

    async def save(self, record: Record) -> None:
        """Keep a record of this node; while NATS is away it is written later."""
        name = record.instance_name
        self._records[name] = record
        self._unsaved.add(name)
        await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet, as far as NATS allows."""
        async with self._lock:
            for name in list(self._unsaved):
                record = self._records.get(name)
                try:
                    bucket = await self._bucket()
                    key = subjects.token(name)
                    await (bucket.put(key, wire_json.dump(record)) if record else bucket.delete(key))
                except Problem:
                    return
                self._unsaved.discard(name)

    async def remove(self, name: str) -> None:
        """Forget a record; in the bucket too, later while NATS is away."""
        self._records.pop(name, None)
        self._unsaved.add(name)
        await self.flush()

    async def refresh(self) -> None:
        """Read the bucket: others' records as they are there, own ones that memory does not know yet."""
        stored = await self._stored()
        for name, record in stored.items():
            known = self._records.get(name)
            if name not in self._unsaved and (known is None or known.node_id != self._node_id):
                self._records[name] = record
        for name, record in list(self._records.items()):
            if name not in stored and record.node_id != self._node_id:
                del self._records[name]

    def observe(self, event: InstanceEvent) -> None:
        """Follow another node's instance between two looks into the bucket."""
        if event.node_id == self._node_id:
            return
        name = event.instance.instance_name
        if event.event == "removed":
            self._records.pop(name, None)
            return
        known = self._records.get(name)
        if known is None or known.node_id == event.node_id:
            base = known.model_dump() if known else {}
            self._records[name] = Record.model_validate({**base, **event.instance.model_dump()})

    async def _stored(self) -> dict[str, Record]:
        bucket = await self._bucket()
        found: dict[str, Record] = {}
        try:
            with _storage():
                keys = await bucket.keys()
        except NoKeysError:
            return found
        for key in keys:
            try:
                with _storage():
                    entry = await bucket.get(key)
                record = Record.model_validate(wire_json.parse(entry.value or b""))
            except (KeyNotFoundError, KeyDeletedError):
                continue
            except (ValidationError, ValueError):
                log.warning("an instance record is not readable", key=key[:128])
                continue
            found[record.instance_name] = record
        return found

    async def _bucket(self) -> "_Bucket":
        with _storage():
            return _Bucket(await ensure_bucket(self._bus.jetstream(), INSTANCES_BUCKET))


class _Bucket:
    """The bucket with the client library's many errors as one."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self.keys = bucket.keys
        self.get = bucket.get

    async def create(self, key: str, value: bytes) -> None:
        with _storage():
            await self._bucket.create(key, value)

    async def put(self, key: str, value: bytes) -> None:
        with _storage():
            await self._bucket.put(key, value)

    async def delete(self, key: str) -> None:
        with _storage():
            await self._bucket.delete(key)


@contextmanager
def _storage() -> Iterator[None]:
    """Any failure of the storage as Problem 503; what says something about a key goes on to the caller."""
    try:
        yield
    except (Problem, NoKeysError, KeyNotFoundError, KeyDeletedError, KeyWrongLastSequenceError):
        raise
    except Exception as error:
        log.warning("instance storage", reason=type(error).__name__)
        raise unavailable("storage", "instance records cannot be read or written now; try again") from error
