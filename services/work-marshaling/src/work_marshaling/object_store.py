"""Buckets of the JetStream object store: made when needed, and no call that waits for ever."""

import asyncio
import contextlib
import io

import nats.errors
from nats.js.api import ObjectMeta, ObjectStoreConfig, StorageType
from nats.js.errors import BucketNotFoundError, NotFoundError, ObjectNotFoundError
from nats.js.errors import Error as JetStreamError
from nats.js.object_store import ObjectStore

from compute_common.bus import Bus
from compute_common.problems import Problem

FAILURES = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError, ValueError)


class Bucket:
    """Every method may raise one of `FAILURES`."""

    def __init__(
        self,
        bus: Bus,
        name: str,
        *,
        replicas: int,
        ttl_seconds: float | None = None,
        call_seconds: float = 60.0,
    ) -> None:
        self._bus = bus
        self._name = name
        self._replicas = replicas
        self._ttl_seconds = ttl_seconds
        self._call_seconds = call_seconds

    async def put(self, name: str, data: bytes, description: str = "") -> None:
        """All of it or nothing: readers see the old object until the new one is whole."""
        async with asyncio.timeout(self._call_seconds):
            store = await self._store()
            await store.put(name, data, ObjectMeta(name=name, description=description))

    async def get(self, name: str) -> bytes | None:
        """None where there is no such object. Its digest was checked."""
        async with asyncio.timeout(self._call_seconds):
            store = await self._store()
            into = io.BytesIO()
            try:
                await store.get(name, writeinto=into)
            except (NotFoundError, ObjectNotFoundError):
                return None
            return into.getvalue()

    async def description(self, name: str) -> str | None:
        async with asyncio.timeout(self._call_seconds):
            store = await self._store()
            with contextlib.suppress(NotFoundError, ObjectNotFoundError):
                return (await store.get_info(name)).description or ""
            return None

    async def _store(self) -> ObjectStore:
        js = self._bus.jetstream()
        try:
            return await js.object_store(self._name)
        except (BucketNotFoundError, NotFoundError):
            config = ObjectStoreConfig(
                ttl=self._ttl_seconds, storage=StorageType.FILE, replicas=self._replicas
            )
            return await js.create_object_store(self._name, config)
