"""NATS behind a small adapter: reconnects for ever, never loses a subscription, drains on stop.

A handler gets the parsed JSON object and may raise `Problem` or pydantic's `ValidationError`; both become a
problem+json reply where a reply was asked for, and a counted, logged rejection where not.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from pydantic import ValidationError

from compute_common import tracing, wire_json
from compute_common.bus_auth import NatsSettings, connect_options
from compute_common.problems import Problem, invalid, unavailable

log = structlog.get_logger("bus")

Message = dict[str, Any]
Handler = Callable[[Message], Awaitable[object]]
FamilyHandler = Callable[[str, Message], Awaitable[object]]
RawHandler = Callable[[Msg], Awaitable[None]]
Hook = Callable[[], Awaitable[None]]
Observer = Callable[[str, str], None]

MAX_CONCURRENT_REQUESTS = 256
CONNECT_TIMEOUT_SECONDS = 2
RECONNECT_WAIT_SECONDS: Any = 0.25  # nats-py sleeps this long; its annotation says int
DRAIN_SECONDS = 2


@dataclass
class _Subscription:
    subject: str
    callback: RawHandler
    queue: str
    live: Any = field(default=None, repr=False)


class Bus:
    """One connection of one program. `observe(subject, outcome)` counts messages (ok, rejected, error)."""

    def __init__(self, settings: NatsSettings, name: str, observe: Observer | None = None) -> None:
        self._settings = settings
        self._name = name
        self._observe: Observer = observe or (lambda _subject, _outcome: None)
        self._subscriptions: list[_Subscription] = []
        self._hooks: list[Hook] = []
        self._connecting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._limit = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        self._connected_once = asyncio.Event()
        self._closing = False
        self._last_error: str | None = None
        self.slow_consumers = 0  # times the client dropped messages that a handler had no time for
        self.client = Client()

    # --- life

    def start(self) -> None:
        """Begin connecting in the background; returns at once whether NATS is there or not."""
        self._connecting = asyncio.create_task(self._connect(), name=f"nats-connect {self._name}")

    async def stop(self) -> None:
        """Drain what is under way, then close. Never raises."""
        self._closing = True
        if self._connecting is not None:
            await _end(self._connecting)
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(Exception):
            if self.client.is_connected:
                await asyncio.wait_for(self.client.drain(), DRAIN_SECONDS)
        with contextlib.suppress(Exception):
            if not self.client.is_closed:
                await self.client.close()

    @property
    def connected(self) -> bool:
        return bool(self.client.is_connected)

    @property
    def detail(self) -> str:
        """What /healthz says of the connection, without credentials."""
        if self.connected:
            return "connected"
        return f"not connected to {self._settings.safe_url}: {self._last_error or 'no answer yet'}"

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Whether the first connection was made within the time."""
        try:
            await asyncio.wait_for(self._connected_once.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

    def on_connect(self, hook: Hook) -> None:
        """Run `hook` after every connect and reconnect (and now, if connected already)."""
        self._hooks.append(hook)
        if self.connected:
            self._spawn(self._run_hook(hook))

    # --- sending

    async def publish(self, subject: str, message: object) -> None:
        """Fire and forget; raises `Problem` 503 while NATS is away, so that nothing is lost silently."""
        self._require_connection()
        await self.client.publish(subject, _encoded(message), headers=tracing.stamped())

    async def request(self, subject: str, message: object, timeout_seconds: float = 5.0) -> Message:
        """Ask and return the answer's object; a problem in the answer is raised as `Problem`."""
        self._require_connection()
        try:
            reply = await self.client.request(
                subject, wire_json.dump(message), timeout=timeout_seconds, headers=tracing.stamped()
            )
        except nats.errors.NoRespondersError as error:
            raise unavailable(
                "no-responder", f"nobody serves {subject}; is that service or host up?"
            ) from error
        except (TimeoutError, nats.errors.TimeoutError) as error:
            raise Problem(504, "no-answer", f"no answer on {subject} within {timeout_seconds:g} s") from error
        except nats.errors.Error as error:
            raise unavailable("nats", f"the request on {subject} could not be sent; try again") from error
        try:
            answer = wire_json.parse_object(reply.data)
        except ValueError as error:
            raise Problem(502, "bad-answer", f"the answer on {subject} is not a JSON object") from error
        if str(answer.get("type", "")).startswith("urn:compute:error:"):
            raise _problem_of(answer)
        return answer

    async def flush(self) -> None:
        """Wait until what was published has left this process."""
        await self.client.flush(timeout=DRAIN_SECONDS)

    def jetstream(self, timeout_seconds: float = 5.0) -> JetStreamContext:
        """The JetStream context of this connection; raises `Problem` 503 while NATS is away."""
        self._require_connection()
        return self.client.jetstream(timeout=timeout_seconds)

    def _require_connection(self) -> None:
        if not self.connected:
            raise unavailable(
                "nats-unavailable", "NATS is not connected; the service heals by itself, try again"
            )

    # --- receiving

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> None:
        """Hand every message to `handler`, one after another, in order."""

        async def receive(msg: Msg) -> None:
            await self._traced(msg, handler)

        await self._add(_Subscription(subject, receive, queue))

    async def subscribe_family(self, pattern: str, handler: FamilyHandler, queue: str = "") -> None:
        """Like `subscribe` for a wildcard pattern; `handler` also gets the subject the message came on."""

        async def receive(msg: Msg) -> None:
            await self._traced(msg, partial(handler, msg.subject))

        await self._add(_Subscription(pattern, receive, queue))

    async def serve(self, subject: str, handler: Handler, queue: str = "") -> None:
        """Answer requests on `subject`, many at a time; `queue` names the group of replicas."""

        async def receive(msg: Msg) -> None:
            await self._limit.acquire()
            task = self._spawn(self._traced(msg, handler))
            task.add_done_callback(lambda _task: self._limit.release())

        await self._add(_Subscription(subject, receive, queue))

    async def subscribe_raw(self, subject: str, callback: RawHandler, queue: str = "") -> None:
        """Hand raw messages on; `callback` must not raise."""
        await self._add(_Subscription(subject, callback, queue))

    async def _add(self, subscription: _Subscription) -> None:
        self._subscriptions.append(subscription)
        if self._connected_once.is_set():
            await self._activate(subscription)

    async def _activate(self, subscription: _Subscription) -> None:
        subscription.live = await self.client.subscribe(
            subscription.subject, queue=subscription.queue, cb=subscription.callback
        )

    async def _traced(self, msg: Msg, handler: Handler) -> None:
        with tracing.span(msg.subject, msg.headers):
            await self._handle(msg, handler)

    async def _handle(self, msg: Msg, handler: Handler) -> None:
        body: Message = {}
        outcome = "ok"
        try:
            body = wire_json.parse_object(msg.data or b"{}")
            answer: object = await handler(body)
        except asyncio.CancelledError:
            raise
        except ValidationError as error:
            answer = invalid(
                "the message has wrong or missing fields", errors=wire_json.validation_errors(error)
            )
        except Problem as problem:
            answer = problem
        except ValueError:
            answer = Problem(400, "malformed-json", "the message is not a JSON object in UTF-8")
        except Exception:
            log.exception("handler failed", subject=msg.subject)
            answer = Problem(500, "internal", "the service failed on this message; its log says why")
        if isinstance(answer, Problem):
            outcome = "error" if answer.status >= 500 else "rejected"
            log.warning("message refused", subject=msg.subject, cause=answer.cause, detail=answer.detail)
            answer = _echo(answer.document(), body)
        self._observe(msg.subject, outcome)
        if msg.reply and answer is not None:
            await self._reply(msg, _echo(answer, body))

    async def _reply(self, msg: Msg, answer: object) -> None:
        try:
            await self.client.publish(msg.reply, _encoded(answer))
        except nats.errors.MaxPayloadError:
            too_big = Problem(
                413, "answer-too-large", "the answer exceeds the NATS payload limit; use `limit`"
            )
            await self.client.publish(msg.reply, wire_json.dump(too_big.document()))
        except nats.errors.Error as error:
            log.warning("reply lost", subject=msg.subject, reason=type(error).__name__)

    # --- connection

    async def _connect(self) -> None:
        while True:
            try:
                options = connect_options(self._settings)  # a file may come later
                await self.client.connect(
                    servers=self._settings.server_list,
                    name=self._name,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                    reconnect_time_wait=RECONNECT_WAIT_SECONDS,
                    drain_timeout=DRAIN_SECONDS,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_reconnected,
                    **options,
                )
                break
            except (OSError, nats.errors.Error, TimeoutError, ValueError) as error:
                await self._on_error(error)
                await asyncio.sleep(RECONNECT_WAIT_SECONDS * 4)
        for subscription in self._subscriptions:
            await self._activate(subscription)
        self._connected_once.set()
        log.info("nats connected", url=self._settings.safe_url)
        await self._run_hooks()

    async def _run_hooks(self) -> None:
        for hook in self._hooks:
            await self._run_hook(hook)

    async def _run_hook(self, hook: Hook) -> None:
        try:
            await hook()
        except Problem as problem:
            log.warning("connect hook refused", cause=problem.cause, detail=problem.detail)
        except Exception:
            log.exception("connect hook failed")

    async def _on_error(self, error: Exception) -> None:
        self.slow_consumers += isinstance(error, nats.errors.SlowConsumerError)
        reason = type(error).__name__
        if reason != self._last_error and not self._closing:
            log.warning("nats error", reason=reason, url=self._settings.safe_url)
        self._last_error = reason

    async def _on_disconnected(self) -> None:
        if not self._closing:
            log.warning("nats disconnected", url=self._settings.safe_url)

    async def _on_reconnected(self) -> None:
        log.info("nats reconnected", url=self._settings.safe_url)
        self._last_error = None
        self._spawn(self._run_hooks())

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel until it ends: Python 3.11's `wait_for`, inside connect, may swallow one cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


def _encoded(message: object) -> bytes:
    """The message as JSON; bytes are JSON already."""
    return message if isinstance(message, bytes) else wire_json.dump(message)


def _echo(answer: object, request: Message) -> object:
    """The answer with the ids it was asked with."""
    asked = {key: request[key] for key in ("query_id", "request_id") if isinstance(request.get(key), str)}
    if not asked:
        return answer
    if hasattr(answer, "model_dump"):
        answer = answer.model_dump(mode="json")
    return {**answer, **asked} if isinstance(answer, dict) else answer


_NO_EXTRA = frozenset(
    {
        "type",
        "title",
        "status",
        "cause",
        "detail",
        "error",
        "error_id",
        "instance",
        "errors",
        "headers",
        "self",
    }
)


def _problem_of(answer: Message) -> Problem:
    """The refusal in an answer; whoever wrote it, it is one."""
    cause = str(answer["type"]).removeprefix("urn:compute:error:")[:100]
    extra = {key: value for key, value in answer.items() if key not in _NO_EXTRA and key.isidentifier()}
    status, errors = answer.get("status"), answer.get("errors")
    return Problem(
        status if isinstance(status, int) and 400 <= status <= 599 else 502,
        cause,
        str(answer.get("detail", cause)),
        errors=errors if isinstance(errors, list) else None,
        **extra,
    )
