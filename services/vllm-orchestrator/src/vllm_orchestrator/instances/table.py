"""Every instance of the cluster, in memory and in the KV bucket COMPUTE_INSTANCES."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.jetstream import INSTANCES_BUCKET, ensure_bucket
from compute_common.problems import Problem, unavailable
from compute_common.schemas.vllm import InstanceEvent
from vllm_orchestrator.instances.record import Record

log = structlog.get_logger("instances")

WRONG_LAST_SEQUENCE = 10071  # the server's own code


class Stored(Protocol):
    """A value as it is kept."""

    @property
    def value(self) -> bytes | None: ...
    @property
    def revision(self) -> int | None: ...


class Bucket(Protocol):
    """Values by key, written by compare-and-set: KeyWrongLastSequenceError for who comes late."""

    async def keys(self) -> list[str]: ...
    async def get(self, key: str) -> Stored: ...
    async def create(self, key: str, value: bytes) -> int: ...
    async def update(self, key: str, value: bytes, last: int) -> int: ...
    async def delete(self, key: str, last: int) -> None: ...
    async def look_up(self, name: str) -> tuple[Record | None, int]: ...


Lost = Callable[[Record, Record], Awaitable[None]]


async def _nothing(_mine: Record, _theirs: Record) -> None:
    return


class InstanceTable:
    """Of this node's records memory is the truth and the bucket its copy; of others' the other way round.

    Every write is a compare-and-set. One that finds the record moved to another host, or planned anew, has
    lost it: `on_lost(mine, theirs)` is called, and what ran here for it is an orphan.
    """

    def __init__(self, bus: Bus, node_id: str, remote: Bucket | None = None) -> None:
        """`remote`: in place of the KV bucket, where this host's account has no JetStream."""
        self._bus = bus
        self._node_id = node_id
        self._remote = remote
        self._records: dict[str, Record] = {}
        self._revisions: dict[str, int] = {}
        self._unsaved: set[str] = set()
        self._heard: set[str] = set()  # by event, since the look into the bucket that is under way began
        self._lock = asyncio.Lock()
        self.on_lost: Lost = _nothing

    def all(self) -> list[Record]:
        return sorted(self._records.values(), key=lambda record: record.instance_name)

    def own(self) -> list[Record]:
        return [record for record in self.all() if record.node_id == self._node_id]

    def get(self, name: str) -> Record | None:
        return self._records.get(name)

    def names(self) -> set[str]:
        return set(self._records)

    async def claim(self, record: Record) -> bool:
        """Take the name for the whole cluster; False when somebody has it, whose record is then known here.

        Problem 503 while NATS is away.
        """
        bucket = await self.bucket()
        name = record.instance_name
        async with self._lock:
            try:
                revision = await bucket.create(subjects.token(name), wire_json.dump(record))
            except KeyWrongLastSequenceError:
                await self._fetch(bucket, name)
                return False
            self._records[name], self._revisions[name] = record, revision
            self._unsaved.discard(name)
        return True

    async def replace(self, record: Record) -> bool:
        """Put `record` where one stood that was read here; False when that was changed meanwhile.

        Problem 503 while NATS is away.
        """
        bucket = await self.bucket()
        name = record.instance_name
        async with self._lock:
            last = self._revisions.get(name, 0)
            try:
                revision = await bucket.update(subjects.token(name), wire_json.dump(record), last)
            except KeyWrongLastSequenceError:
                await self._fetch(bucket, name)
                return False
            self._records[name], self._revisions[name] = record, revision
            self._unsaved.discard(name)
        return True

    async def save(self, record: Record) -> None:
        """Keep a record of this node; while NATS is away it is written later."""
        name = record.instance_name
        self._records[name] = record
        self._unsaved.add(name)
        await self.flush()

    async def remove(self, name: str) -> None:
        """Forget a record; in the bucket too, later while NATS is away."""
        self._records.pop(name, None)
        self._unsaved.add(name)
        await self.flush()

    async def flush(self) -> None:
        """Write what is not written yet, as far as NATS allows."""
        lost: list[tuple[Record, Record]] = []
        async with self._lock:
            for name in list(self._unsaved):
                try:
                    theirs = await self._write(await self.bucket(), name)
                except Problem:
                    break
                self._unsaved.discard(name)
                mine = self._records.get(name)
                if theirs is not None:
                    self._records[name] = theirs
                if theirs is not None and mine is not None:
                    lost.append((mine, theirs))
        for mine, theirs in lost:
            await self.on_lost(mine, theirs)

    async def fetch(self, name: str) -> Record | None:
        """One record as the bucket has it now. Problem 503 while NATS is away."""
        bucket = await self.bucket()
        async with self._lock:
            record = await self._fetch(bucket, name)
            mine = self._records.get(name)
            lost = record is not None and mine is not None and self._took(mine, record)
            if lost and record is not None:
                self._records[name], self._revisions[name] = record, (await bucket.look_up(name))[1]
        if lost and mine is not None and record is not None:
            await self.on_lost(mine, record)
        return record

    def _took(self, mine: Record, theirs: Record) -> bool:
        """Whether `mine` is of this node and `theirs` a later life of it."""
        return mine.node_id == self._node_id and self._moved(mine, theirs)

    async def refresh(self) -> None:
        """Read the bucket: others' records as they are there, own ones that memory does not know yet.

        An own one that another host wrote over is written again.
        """
        lost: list[tuple[Record, Record]] = []
        async with self._lock:
            self._heard.clear()
            stored = await self._stored()
            for name, (record, revision) in stored.items():
                known = self._records.get(name)
                if name in self._unsaved or name in self._heard:
                    continue
                if known is None or known.node_id != self._node_id:
                    self._records[name], self._revisions[name] = record, revision
                elif self._moved(known, record):
                    self._records[name], self._revisions[name] = record, revision
                    lost.append((known, record))
                elif revision != self._revisions.get(name):  # said to be degraded while this host was away
                    self._unsaved.add(name)
            for name, record in list(self._records.items()):
                others = record.node_id != self._node_id
                if others and name not in stored and name not in self._heard:
                    del self._records[name]
        for mine, theirs in lost:
            await self.on_lost(mine, theirs)
        await self.flush()

    async def _write(self, bucket: Bucket, name: str) -> Record | None:
        """Write one name; the record that stands there when it is not ours any more."""
        key, record = subjects.token(name), self._records.get(name)
        while True:
            last = self._revisions.get(name, 0)
            try:
                if record is not None:
                    self._revisions[name] = await bucket.update(key, wire_json.dump(record), last)
                elif last:
                    await bucket.delete(key, last)
                    del self._revisions[name]
                return None
            except KeyWrongLastSequenceError:
                theirs, revision = await bucket.look_up(name)
            self._revisions[name] = revision
            if theirs is not None and self._moved(record, theirs):
                return theirs
            if theirs is None and record is None:
                return None

    def _moved(self, mine: Record | None, theirs: Record) -> bool:
        """Whether `theirs` is another life of the instance than the one that runs here."""
        return theirs.node_id != self._node_id or (mine is not None and theirs.epoch > mine.epoch)

    async def _fetch(self, bucket: Bucket, name: str) -> Record | None:
        """Read one record and take it over where it is not this node's: there memory is the truth."""
        record, revision = await bucket.look_up(name)
        known = self._records.get(name)
        if known is None or known.node_id != self._node_id:
            self._revisions[name] = revision
            if record is None:
                self._records.pop(name, None)
            else:
                self._records[name] = record
        return record

    def observe(self, event: InstanceEvent) -> None:
        """Follow another node's instance between two looks into the bucket."""
        if event.node_id == self._node_id:
            return
        name = event.instance.instance_name
        self._heard.add(name)
        if event.event == "removed":
            self._records.pop(name, None)
            return
        known = self._records.get(name)
        taken_over = known is not None and event.instance.epoch > known.epoch
        if known is not None and known.node_id == self._node_id:
            return  # the next look into the bucket tells whose it is
        if known is None or known.node_id == event.node_id or taken_over:
            base = known.model_dump() if known else {}
            self._records[name] = Record.model_validate({**base, **event.instance.model_dump()})

    async def _stored(self) -> dict[str, tuple[Record, int]]:
        bucket = await self.bucket()
        found: dict[str, tuple[Record, int]] = {}
        try:
            with _storage():
                keys = await bucket.keys()
        except NoKeysError:
            return found
        for key in keys:
            try:
                with _storage():
                    entry = await bucket.get(key)
            except KeyNotFoundError:
                continue
            record = _record_of(entry.value, key)
            if record is not None:
                found[record.instance_name] = (record, entry.revision or 0)
        return found

    async def bucket(self) -> Bucket:
        """Where the records are kept. Problem 503 while NATS is away."""
        if self._remote is not None:
            return self._remote
        with _storage():
            return _Bucket(await ensure_bucket(self._bus.jetstream(), INSTANCES_BUCKET))


def _record_of(value: bytes | None, key: str) -> Record | None:
    try:
        return Record.model_validate(wire_json.parse(value or b""))
    except (ValidationError, ValueError):
        log.warning("an instance record is not readable", key=key[:128])
        return None


class _Bucket:
    """The bucket with the client library's many errors as one."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def keys(self) -> list[str]:
        return await self._bucket.keys()

    async def get(self, key: str) -> Stored:
        return await self._bucket.get(key)

    async def create(self, key: str, value: bytes) -> int:
        with _storage():
            return await self._bucket.create(key, value)

    async def update(self, key: str, value: bytes, last: int) -> int:
        """`last` 0: the key must never have been written."""
        with _storage():
            return await self._bucket.update(key, value, last=last)

    async def delete(self, key: str, last: int) -> None:
        with _storage():
            try:
                await self._bucket.delete(key, last=last)
            except APIError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    raise KeyWrongLastSequenceError(description=error.description) from error
                raise

    async def look_up(self, name: str) -> tuple[Record | None, int]:
        """What stands there, and the revision to write after."""
        try:
            with _storage():
                entry = await self._bucket.get(subjects.token(name))
        except KeyNotFoundError as error:
            return None, (error.entry.revision or 0) if error.entry else 0
        return _record_of(entry.value, name), entry.revision or 0


@contextmanager
def _storage() -> Iterator[None]:
    """Any failure of the storage as Problem 503; what says something about a key goes on to the caller."""
    try:
        yield
    except (Problem, NoKeysError, KeyNotFoundError, KeyWrongLastSequenceError):
        raise
    except Exception as error:
        reason = f"NATS storage: {type(error).__name__}"
        raise unavailable(
            "storage", f"instance records cannot be read or written now ({reason}); try again"
        ) from error
