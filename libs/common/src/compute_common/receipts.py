"""Publishing to a stream, acknowledged: thousands at a time cost a future each, no timer and no task."""

import asyncio
import itertools

import nats.errors
from nats.aio.msg import Msg

from compute_common import tracing, wire_json
from compute_common.bus import Bus, Message
from compute_common.problems import unavailable


class Receipts:
    """All acknowledgements come on one inbox. `timeout_seconds` is what each may take."""

    def __init__(self, bus: Bus, timeout_seconds: float) -> None:
        self._bus = bus
        self._timeout_seconds = timeout_seconds
        self._prefix = ""
        self._numbers = itertools.count(1)
        self._open: dict[str, tuple[float, asyncio.Future[Message]]] = {}  # by inbox, oldest first
        self._watching: asyncio.TimerHandle | None = None

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> Message:
        """The acknowledgement, which may hold an `error`.

        Raises `Problem` 503 while NATS is away, else what the client raises: `nats.errors.Error` (nobody
        listens, payload too large, no answer in time), ValueError for an answer that is no object.
        """
        return await (await self.send(subject, body, headers))

    async def send(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> asyncio.Future[Message]:
        """Publish now; the acknowledgement comes as a future, which somebody must await."""
        if not self._bus.connected:
            raise unavailable("nats-unavailable", "NATS is not connected; it heals by itself, try again")
        if not self._prefix:
            self._prefix = self._bus.client.new_inbox()
            await self._bus.subscribe_raw(f"{self._prefix}.*", self._answered)
        loop = asyncio.get_running_loop()
        inbox = f"{self._prefix}.{next(self._numbers)}"
        receipt: asyncio.Future[Message] = loop.create_future()
        self._open[inbox] = (loop.time() + self._timeout_seconds, receipt)
        if self._watching is None:
            self._watching = loop.call_later(self._timeout_seconds, self._look)
        try:
            await self._bus.client.publish(subject, body, reply=inbox, headers=tracing.stamped(headers))
        except BaseException:
            del self._open[inbox]
            raise
        return receipt

    async def _answered(self, msg: Msg) -> None:
        _, receipt = self._open.pop(msg.subject, (0.0, None))
        if receipt is None or receipt.done():
            return
        if msg.headers and msg.headers.get("Status") == "503":
            receipt.set_exception(nats.errors.NoRespondersError())
            return
        try:
            receipt.set_result(wire_json.parse_object(msg.data))
        except ValueError as error:
            receipt.set_exception(error)

    def _look(self) -> None:
        """End those that waited long enough, and look again when the next one has."""
        loop = asyncio.get_running_loop()
        self._watching = None
        for inbox, (due, receipt) in list(self._open.items()):
            if due > loop.time():
                self._watching = loop.call_at(due, self._look)
                return
            del self._open[inbox]
            if not receipt.done():
                receipt.set_exception(nats.errors.TimeoutError())
