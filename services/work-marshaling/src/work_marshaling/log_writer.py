"""Writing to the work log, acknowledged; and reading single messages of it back."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import nats.errors
import structlog
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from compute_common import wire_json
from compute_common.bus import Bus, Message
from compute_common.jetstream import WORK_STREAM
from compute_common.problems import Problem, conflict, unavailable
from compute_common.receipts import Receipts
from compute_common.tracing import HEADER
from work_marshaling.items import Item
from work_marshaling.log_reader import FOLLOWS
from work_marshaling.state import WorkState

log = structlog.get_logger("work-log")

RECENT_BYTES = 16 << 20
RECENT_TRACES = 10_000
ACK_SECONDS = 5.0
MAX_IN_FLIGHT = 512
WRONG_LAST_SEQUENCE = (10071, 10164)  # the server has two codes for it
FAILURES = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError)


class LogWriter:
    """Publishes with a message id, so that saying a thing twice records it once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._receipts = Receipts(bus, ACK_SECONDS)
        self._limit = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def publish(self, subject: str, body: bytes, message_id: str) -> int:
        """The sequence under which the log has it. `Problem` 503 when it is not known to have it."""
        return await self._publish(subject, body, {"Nats-Msg-Id": message_id})

    async def publish_after(self, subject: str, body: bytes, last_seq: int) -> int:
        """Like `publish`, if `last_seq` is the subject's last sequence; `Problem` 409 when it is not."""
        return await self._publish(subject, body, {FOLLOWS: str(last_seq)})

    async def last_seq(self, subject: str) -> int:
        """The subject's last sequence, 0 when it has none; `Problem` 503."""
        try:
            message = await self._bus.jetstream(ACK_SECONDS).get_last_msg(WORK_STREAM, subject, direct=False)
        except NotFoundError:
            return 0
        except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
            raise unavailable("work-log-unavailable", "the work log cannot be read; try again") from error
        return int(message.seq or 0)

    async def publish_all(self, subject: str, bodies: list[bytes]) -> list[int]:
        """Record all of them; their sequences in order. A refusal is raised when all are answered."""
        seqs: list[int] = []
        for start in range(0, len(bodies), MAX_IN_FLIGHT):
            with _refusals():
                sent = [await self._receipts.send(subject, body) for body in bodies[start:][:MAX_IN_FLIGHT]]
                await asyncio.wait(sent)
                seqs += [_seq(receipt.result()) for receipt in sent]
        return seqs

    async def _publish(self, subject: str, body: bytes, headers: dict[str, str]) -> int:
        async with self._limit:
            with _refusals():
                return _seq(await self._receipts.publish(subject, body, headers))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What goes wrong on the way, as a `Problem`."""
    try:
        yield
    except nats.errors.MaxPayloadError as error:
        raise Problem(413, "payload-too-large", "the item exceeds the payload limit; send less") from error
    except (nats.errors.Error, OSError, ValueError) as error:
        detail = "the work log did not acknowledge in time; try again"
        raise unavailable("work-log-unavailable", detail) from error


def _seq(receipt: Message) -> int:
    """The sequence of an acknowledgement; `Problem` for one that is a refusal."""
    refusal = receipt.get("error")
    if not isinstance(refusal, dict):
        return int(receipt.get("seq", 0))
    if refusal.get("err_code") in WRONG_LAST_SEQUENCE:
        raise conflict("decided-meanwhile", "another marshaler decided since")
    detail = "the work log takes no more now (its disk limit is reached); try again later"
    raise unavailable("work-log-refused", detail, retry_after_seconds=5)


class Bodies:
    """Message bodies by sequence: the last few megabytes from memory, the others from the log."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._recent: OrderedDict[int, bytes] = OrderedDict()
        self._traces: OrderedDict[int, str] = OrderedDict()
        self._size = 0

    def keep(self, seq: int, body: bytes, trace: str | None = None) -> None:
        self._note(seq, trace)
        self._recent[seq] = body
        self._size += len(body)
        while self._size > RECENT_BYTES:
            _, old = self._recent.popitem(last=False)
            self._size -= len(old)

    def drop(self, seq: int) -> None:
        body = self._recent.pop(seq, None)
        if body is not None:
            self._size -= len(body)

    def clear(self) -> None:
        self._recent.clear()
        self._traces.clear()
        self._size = 0

    def headers(self, seq: int) -> dict[str, str] | None:
        """The trace that the message at `seq` came with, for messages that follow from it."""
        trace = self._traces.get(seq)
        return {HEADER: trace} if trace else None

    def _note(self, seq: int, trace: str | None) -> None:
        if trace:
            self._traces[seq] = trace
            if len(self._traces) > RECENT_TRACES:
                self._traces.popitem(last=False)

    def recent(self, seq: int) -> bytes | None:
        """The body at `seq`, where it is still in memory."""
        return self._recent.get(seq)

    async def submission(self, state: WorkState, item: Item) -> dict[str, Any] | None:
        """The item's submission, wherever it was moved to; None when it is gone. `Problem` 503."""
        body = await self.read(state.body_seq(item))
        if body is None or item.work_id not in state.moved:
            return body
        moved = body.get("move")
        submission = moved.get("submission") if isinstance(moved, dict) else None
        return submission if isinstance(submission, dict) else None

    async def read(self, seq: int) -> dict[str, Any] | None:
        """The object at `seq`, or None when it is gone; `Problem` 503 while it cannot be read."""
        body = self._recent.get(seq)
        if body is None:
            try:
                found = await self._bus.jetstream(ACK_SECONDS).get_msg(WORK_STREAM, seq, direct=True)
                body = found.data
                self._note(seq, (found.headers or {}).get(HEADER))
            except NotFoundError:
                return None
            except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
                raise unavailable("work-log-unavailable", "the work log cannot be read; try again") from error
        try:
            return wire_json.parse_object(body or b"")
        except ValueError:
            return None
