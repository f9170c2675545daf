"""A server with node accounts, and clients inside them, for the tests beside this file."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import nats
from nats.aio.client import Client

from compute_cli import node_accounts
from compute_cli.nats_accounts import NodeAccount
from compute_cli.node_login import comes_up
from compute_common import wire_json
from compute_common.bus_auth import ONE_TRY
from tests.support.nats import NatsServer


async def enter(server: NatsServer, node_id: str) -> NodeAccount:
    """An account added to the running server, usable."""
    node = node_accounts.add(server.home, node_id)
    assert node_accounts.reload(server.home)
    assert await comes_up(server.home, server.url, node)
    return node


def url_of(server: NatsServer, node: NodeAccount) -> str:
    return server.url.replace("//", f"//{node.node_id}:{node.password}@")


class Inside:
    """A client in a node's account that listens to everything."""

    def __init__(self, client: Client, errors: list[Exception]) -> None:
        self.client = client
        self.errors = errors
        self.heard: list[tuple[str, bytes]] = []

    async def listen(self) -> None:
        async def note(msg: Any) -> None:
            self.heard.append((msg.subject, msg.data))

        await self.client.subscribe(">", cb=note)
        await self.client.flush()

    async def say(self, subject: str, body: dict[str, Any], reply: str = "") -> None:
        await self.client.publish(subject, wire_json.dump(body), reply=reply)
        await self.client.flush()

    async def answer(self, subject: str, body: bytes = b"", seconds: float = 0.5) -> dict[str, Any] | None:
        """What comes back, if anything."""
        with suppress(nats.errors.Error, TimeoutError):
            return wire_json.parse_object((await self.client.request(subject, body, timeout=seconds)).data)
        return None


@asynccontextmanager
async def inside(server: NatsServer, *nodes: NodeAccount) -> AsyncIterator[list[Inside]]:
    async with AsyncExitStack() as stack:
        clients = []
        for node in nodes:
            errors: list[Exception] = []

            async def note(error: Exception, errors: list[Exception] = errors) -> None:
                errors.append(error)

            client = await nats.connect(url_of(server, node), allow_reconnect=False, error_cb=note, name="x")
            stack.push_async_callback(client.close)
            clients.append(Inside(client, errors))
        yield clients
        await asyncio.sleep(0)


async def is_refused(url: str, **options: Any) -> bool:
    """Whether the server, or this side for a certificate, ends a try to connect; nothing stays open."""
    client = Client()
    try:
        await client.connect(url, connect_timeout=2, error_cb=_quiet, **ONE_TRY, **options)
    except (nats.errors.Error, OSError):
        return True
    finally:
        await client.close()
    return False


async def _quiet(_error: Exception) -> None:
    """A refusal is an answer."""
