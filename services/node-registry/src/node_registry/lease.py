"""Which of several replicas writes: the holder of a key that the bucket forgets unless it is renewed."""

import time

import nats.errors
import nats.js.errors
import structlog
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from compute_common.bus import Bus
from compute_common.problems import Problem

log = structlog.get_logger("lease")

BUCKET = "COMPUTE_REGISTRY_LEASE"
KEY = "writer"
LEASE_SECONDS = 6.0  # the bucket's own age limit: no markers, no headers; an expired key is simply gone
RENEW_SECONDS = 2.0
MARGIN_SECONDS = 1.0  # a holder stops believing in its lease before the server does
_FAILURES = (nats.errors.Error, nats.js.errors.Error, Problem, TimeoutError, OSError)


class WriterLease:
    """`step` is called every `RENEW_SECONDS` and after each connect; it claims, renews or finds it taken."""

    def __init__(self, bus: Bus, holder: str) -> None:
        self._bus = bus
        self._holder = holder
        self._bucket: KeyValue | None = None
        self._revision: int | None = None
        self._until = 0.0
        self._wrote = True  # nobody else is known before NATS was heard

    @property
    def held(self) -> bool:
        """Whether this replica writes now. While NATS is away, whoever wrote last goes on by itself."""
        return time.monotonic() < self._until if self._bus.connected else self._wrote

    async def step(self) -> None:
        """Never raises."""
        if not self._bus.connected:
            return
        started = time.monotonic()
        try:
            bucket = self._bucket or await self._open()
            self._revision = await self._claim(bucket)
        except _FAILURES as error:
            self._revision = None
            self._bucket = None
            if started >= self._until:
                self._say(held=False, reason=type(error).__name__)
            return
        if self._revision is not None:
            self._until = started + LEASE_SECONDS - MARGIN_SECONDS
        else:
            self._until = 0.0
        self._say(held=self._revision is not None, reason=None)

    async def release(self) -> None:
        """Let another take over at once."""
        if self._bucket is not None and self._revision is not None and self._bus.connected:
            try:
                await self._bucket.delete(KEY, last=self._revision)
            except _FAILURES as error:
                log.warning("lease not released", reason=type(error).__name__)
        self._revision, self._until = None, 0.0

    async def _claim(self, bucket: KeyValue) -> int | None:
        """The revision held now; None when another replica holds the key."""
        value = self._holder.encode()
        if self._revision is not None:
            try:
                return await bucket.update(KEY, value, last=self._revision)
            except nats.js.errors.KeyWrongLastSequenceError:
                pass  # expired, or taken: only a fresh claim tells
        try:
            return await bucket.create(KEY, value)
        except nats.js.errors.KeyWrongLastSequenceError:
            return None

    async def _open(self) -> KeyValue:
        js = self._bus.jetstream()
        try:
            self._bucket = await js.key_value(BUCKET)
        except (BucketNotFoundError, NotFoundError):
            config = KeyValueConfig(
                bucket=BUCKET, history=1, ttl=LEASE_SECONDS, storage=StorageType.FILE, direct=True
            )
            self._bucket = await js.create_key_value(config)
        return self._bucket

    def _say(self, held: bool, reason: str | None) -> None:
        if held != self._wrote:
            log.info("writer" if held else "standby", reason=reason)
        self._wrote = held
