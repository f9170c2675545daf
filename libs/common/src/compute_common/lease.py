"""Which of several replicas acts: the holder of a key that its bucket forgets unless it is renewed.

Every change of the key is a compare-and-set. A replica started again under its old name takes its own key
back at once; only a starting one may, so that two that share a name by mistake do not take it in turns. The
one that lost it notices at its next step: what must never be done twice carries the epoch.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import nats.errors
import nats.js.errors
import structlog
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from compute_common import wire_json
from compute_common.bus import Bus
from compute_common.ids import new_id
from compute_common.jetstream import ensure_bucket
from compute_common.problems import Problem

log = structlog.get_logger("lease")

TRUSTED_SHARE = 5 / 6  # of the key's age: a holder stops believing in it before the server does
_FAILURES = (nats.errors.Error, nats.js.errors.Error, Problem, TimeoutError, OSError)


@dataclass(frozen=True)
class LeaseTerms:
    """Where the key is, and how long it lives: the age limit is the bucket's own, so it serves one lease."""

    bucket: str
    key: str = "holder"
    max_age_seconds: float = 6.0
    renew_seconds: float = 2.0


class Lease:
    """`step` claims, renews, or finds the key taken; call it every `renew_seconds` and after each connect."""

    def __init__(
        self, bus: Bus, terms: LeaseTerms, holder: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`holder`: the replica's lasting name, the same after a restart."""
        self.terms = terms
        self._bus = bus
        self._holder = holder
        self._clock = clock
        self._session = new_id("session")
        self._value = wire_json.dump({"holder": holder, "session": self._session})
        self._lock = asyncio.Lock()
        self._bucket: KeyValue | None = None
        self._max_age_seconds = terms.max_age_seconds
        self._is_starting = True
        self._failing = False
        self._revision: int | None = None
        self._epoch: int | None = None
        self._until = 0.0
        self.last_answer: bool | None = None  # whether it was held when NATS last told; None before that

    @property
    def held(self) -> bool:
        """Whether this replica holds the lease now; ends by itself where renewing does not succeed."""
        return self._clock() < self._until

    @property
    def epoch(self) -> int | None:
        """A number greater than that of every holder before; None where the lease is not held."""
        return self._epoch if self.held else None

    async def step(self) -> bool:
        """Whether the lease is held now. Never raises."""
        async with self._lock:
            if self._bus.connected:
                await self._step()
        return self.held

    async def release(self) -> None:
        """Let another take over at once; what cannot be told runs out."""
        async with self._lock:
            if self._bucket is not None and self._revision is not None and self._bus.connected:
                try:
                    await self._bucket.delete(self.terms.key, last=self._revision)
                except _FAILURES as error:
                    log.warning("lease not released", bucket=self.terms.bucket, reason=type(error).__name__)
            self._lose()

    async def _step(self) -> None:
        asked_at = self._clock()
        try:
            bucket = self._bucket or await self._open()
            revision = await self._claim(bucket)
        except _FAILURES as error:
            self._bucket = None  # the claim may be written all the same: the next step finds it
            self._tell_failure(type(error).__name__)
            return
        self._is_starting = self._failing = False
        if revision is None:
            self._lose()
        else:
            self._revision = revision
            self._until = asked_at + self._max_age_seconds * TRUSTED_SHARE
        self._tell(revision is not None)

    async def _claim(self, bucket: KeyValue) -> int | None:
        """The revision held now; None when another holds the key."""
        if self._revision is not None:
            try:
                return await bucket.update(self.terms.key, self._value, last=self._revision)
            except KeyWrongLastSequenceError:
                pass  # expired, taken, or an acknowledgement was lost
        try:
            revision = await bucket.create(self.terms.key, self._value)
        except KeyWrongLastSequenceError:
            return await self._take_back(bucket)
        self._epoch = revision
        return revision

    async def _take_back(self, bucket: KeyValue) -> int | None:
        """The key where it is this process's own, or, at the start, that of an earlier run of it."""
        try:
            entry = await bucket.get(self.terms.key)
        except KeyNotFoundError:
            return None  # it went this moment; the next step claims it
        holder, session = _parsed(entry.value)
        of_earlier_run = self._is_starting and holder == self._holder
        if session != self._session and not of_earlier_run:
            return None
        try:
            revision = await bucket.update(self.terms.key, self._value, last=entry.revision)
        except KeyWrongLastSequenceError:
            return None
        if session != self._session or self._epoch is None:
            self._epoch = revision
        return revision

    async def _open(self) -> KeyValue:
        terms = self.terms
        js = self._bus.jetstream(terms.renew_seconds)
        self._bucket = await ensure_bucket(js, terms.bucket, ttl_seconds=terms.max_age_seconds)
        age = (await self._bucket.status()).ttl  # of whoever made it, perhaps an older release
        self._max_age_seconds = min(terms.max_age_seconds, age or terms.max_age_seconds)
        return self._bucket

    def _lose(self) -> None:
        self._revision = self._epoch = None
        self._until = 0.0

    def _tell_failure(self, reason: str) -> None:
        """Once, until a step succeeds."""
        if not self._failing:
            log.warning(
                "lease not renewed; tried again",
                bucket=self.terms.bucket,
                reason=reason,
                again_in_seconds=self.terms.renew_seconds,
            )
        self._failing = True

    def _tell(self, held: bool) -> None:
        if held != self.last_answer:
            log.info("lease held" if held else "standing by", bucket=self.terms.bucket, epoch=self._epoch)
        self.last_answer = held


def _parsed(value: bytes | None) -> tuple[object, object]:
    """Holder and session; (None, None) for what no release of this program wrote."""
    try:
        fields = wire_json.parse_object(value or b"{}")
    except ValueError:
        return None, None
    return fields.get("holder"), fields.get("session")
