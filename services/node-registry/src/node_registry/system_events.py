"""The NATS server's own word on who connects and disconnects, from its system account."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

import nats.errors
import structlog
from nats.aio.msg import Msg
from pydantic import AliasPath, Field, SecretStr, ValidationError

from compute_common import subjects, wire_json
from compute_common.bus import Bus
from compute_common.ids import is_identifier
from compute_common.problems import Problem
from compute_common.schemas.base import Wire
from compute_common.times import UtcTime
from node_registry.connections import Connections, Key
from node_registry.settings import Settings

log = structlog.get_logger("system-events")

LIST_SUBJECT = "$SYS.REQ.SERVER.PING.CONNZ"
LIST_QUIET_SECONDS = 0.5  # every server of a cluster answers for itself
MOST_LISTED = 65_536
NOT_CONFIGURED = "no system account given (NATS_SYS_USER); a dead node is noticed by its silence only"


class ServerEvent(Wire):
    """`$SYS.ACCOUNT.<account>.CONNECT` or `DISCONNECT`, as far as it matters here."""

    server_id: str = Field(validation_alias=AliasPath("server", "id"))
    client_id: int = Field(validation_alias=AliasPath("client", "id"))
    name: str = Field("", validation_alias=AliasPath("client", "name"))
    start: UtcTime | None = Field(None, validation_alias=AliasPath("client", "start"))
    stop: UtcTime | None = Field(None, validation_alias=AliasPath("client", "stop"))
    account: str = Field("", validation_alias=AliasPath("client", "acc"))
    reason: str = ""

    @property
    def key(self) -> Key:
        return self.server_id, self.client_id

    @property
    def lived_seconds(self) -> float:
        return (self.stop - self.start).total_seconds() if self.start and self.stop else 0.0


class SystemEvents:
    """A second connection, to the system account; without one given it does nothing and says so."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections()
        self._new_accounts: set[str] = set()
        self._bus: Bus | None = None
        if settings.nats_sys_user:
            login = {
                "nats_user": settings.nats_sys_user,
                "nats_password": settings.nats_sys_password or SecretStr(""),
                "nats_creds": None,
            }
            self._bus = Bus(settings.model_copy(update=login), "node-registry-system")

    async def start(self) -> None:
        if self._bus is None:
            return
        await self._bus.subscribe_raw("$SYS.ACCOUNT.*.CONNECT", self._connected)
        await self._bus.subscribe_raw("$SYS.ACCOUNT.*.DISCONNECT", self._disconnected)
        self._bus.on_connect(self._list)
        self._bus.start()

    async def stop(self) -> None:
        if self._bus is not None:
            await self._bus.stop()

    def gone(self, now: float) -> list[tuple[str, float]]:
        """Names whose connections ended and did not come back, and since when (monotonic).

        Nobody while this connection is down itself: then a server went, not a node.
        """
        if self._bus is None:
            return []
        if not self._bus.connected:
            self._connections.begin()
            return []
        return self._connections.gone(now)

    def new_accounts(self) -> set[str]:
        """Nodes that connected in an account of their own; each connection is told once."""
        told, self._new_accounts = self._new_accounts, set()
        return told

    async def check(self) -> tuple[bool, str | None]:
        """For /healthz: not configured is no defect."""
        if self._bus is None:
            return True, NOT_CONFIGURED
        return self._bus.connected, self._bus.detail

    async def ask(self, subject: str, question: dict[str, object] | None = None) -> list[bytes]:
        """What every server of the cluster answers; nothing without a system account or connection."""
        bus, answers = self._bus, []
        if bus is None or not bus.connected:
            return []
        with contextlib.suppress(nats.errors.Error, Problem, TimeoutError, asyncio.TimeoutError):
            inbox = bus.client.new_inbox()
            subscription = await bus.client.subscribe(inbox)
            try:
                await bus.client.publish(subject, wire_json.dump(question or {}), reply=inbox)
                while True:
                    answers.append((await subscription.next_msg(LIST_QUIET_SECONDS)).data)
            finally:
                await subscription.unsubscribe()
        return answers

    async def _connected(self, msg: Msg) -> None:
        event = _parse(msg)
        if event is not None:
            self._note_account(event.account)
            if speaks_for(event.name, event.account):
                self._connections.opened(event.name, event.key)

    async def _disconnected(self, msg: Msg) -> None:
        event = _parse(msg)
        counts = event is not None and speaks_for(event.name, event.account)
        if event is not None and counts and "Server Shutdown" not in event.reason:
            self._connections.closed(event.name, event.key, event.lived_seconds, time.monotonic())

    async def _list(self) -> None:
        """What is open already; told again at every connect, since events were missed meanwhile."""
        if self._bus is None:
            return
        self._connections.begin()
        answers = await self.ask(LIST_SUBJECT, {"limit": MOST_LISTED, "auth": True})
        found: list[tuple[str, Key]] = []
        for account, name, key in (each for answer in answers for each in _open_connections(answer)):
            self._note_account(account)
            found += [(name, key)] if speaks_for(name, account) else []
        self._connections.listed(found)
        log.info("disconnect events are heard", connections=len(found))

    def _note_account(self, account: str) -> None:
        node_id = subjects.untoken(account.removeprefix(subjects.NODE_ACCOUNT))
        if is_identifier(node_id) and account == subjects.node_account(node_id):
            self._new_accounts.add(node_id)


def _parse(msg: Msg) -> ServerEvent | None:
    try:
        return ServerEvent.model_validate_json(msg.data)
    except ValidationError:
        return None


def speaks_for(name: object, account: object) -> bool:
    """Whether a connection of that name may be the node's: in a node's own account no other name counts."""
    if not is_identifier(name):
        return False
    is_own = str(account).startswith(subjects.NODE_ACCOUNT)
    return not is_own or account == subjects.node_account(str(name))


def _open_connections(data: bytes) -> Iterator[tuple[str, str, Key]]:
    """Account, name and key of each in one server's answer."""
    try:
        answer = wire_json.parse_object(data).get("data", {})
        server = str(answer.get("server_id", ""))
        for connection in answer.get("connections") or []:
            account, name = str(connection.get("account", "")), str(connection.get("name", ""))
            yield account, name, (server, int(connection["cid"]))
    except (ValueError, AttributeError, KeyError, TypeError):
        return
