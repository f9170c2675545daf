"""Writing to the work log, acknowledged; and reading single messages of it back."""

import asyncio
from collections import OrderedDict
from typing import Any

import nats.errors
import structlog
from nats.js.errors import APIError, NotFoundError
from nats.js.errors import Error as JetStreamError

from compute_common import wire_json
from compute_common.bus import Bus
from compute_common.jetstream import WORK_STREAM
from compute_common.problems import Problem, unavailable

log = structlog.get_logger("work-log")

RECENT_BYTES = 16 << 20
ACK_SECONDS = 5.0
MAX_IN_FLIGHT = 512
FAILURES = (nats.errors.Error, JetStreamError, Problem, OSError, TimeoutError)


class LogWriter:
    """Publishes with a message id, so that saying a thing twice records it once."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._limit = asyncio.Semaphore(MAX_IN_FLIGHT)

    async def publish(self, subject: str, body: bytes, message_id: str) -> int:
        """The sequence under which the log has it. `Problem` 503 when it is not known to have it."""
        async with self._limit:
            try:
                js = self._bus.jetstream(ACK_SECONDS)
                ack = await js.publish(subject, body, headers={"Nats-Msg-Id": message_id})
            except nats.errors.MaxPayloadError as error:
                raise Problem(
                    413, "payload-too-large", "the item exceeds the payload limit; send less"
                ) from error
            except APIError as error:
                detail = "the work log takes no more now (its disk limit is reached); try again later"
                raise unavailable("work-log-refused", detail, retry_after_seconds=5) from error
            except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
                detail = "the work log did not acknowledge in time; try again"
                raise unavailable("work-log-unavailable", detail) from error
        return int(ack.seq)


class Bodies:
    """Message bodies by sequence: the last few megabytes from memory, the others from the log."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._recent: OrderedDict[int, bytes] = OrderedDict()
        self._size = 0

    def keep(self, seq: int, body: bytes) -> None:
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
        self._size = 0

    async def read(self, seq: int) -> dict[str, Any] | None:
        """The object at `seq`, or None when it is gone; `Problem` 503 while it cannot be read."""
        body = self._recent.get(seq)
        if body is None:
            try:
                body = (await self._bus.jetstream(ACK_SECONDS).get_msg(WORK_STREAM, seq, direct=True)).data
            except NotFoundError:
                return None
            except (nats.errors.Error, JetStreamError, OSError, TimeoutError) as error:
                raise unavailable("work-log-unavailable", "the work log cannot be read; try again") from error
        try:
            return wire_json.parse_object(body or b"")
        except ValueError:
            return None
