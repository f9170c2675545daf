"""Whether a node's account works: it is let in, and what it says arrives."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import Any

import nats.errors
from nats.aio.client import Client

from compute_cli import nats_server
from compute_cli.invitation import Invitation
from compute_cli.nats_accounts import SAYS, NodeAccount
from compute_cli.suite import running_suite
from compute_common.bus_auth import ONE_TRY
from compute_common.subjects import node_subject

PATIENCE_SECONDS = 20.0  # with 500 accounts a reload takes a second
PAUSE_SECONDS = 0.05
REACH_SECONDS = 5


async def check_login(home: Path, node: NodeAccount) -> bool:
    """Whether the suite's own server takes the account up in time; True where it is not known."""
    url = running_suite(home).get("nats_url")
    return not url or await comes_up(home, str(url), node)


async def comes_up(home: Path, url: str, node: NodeAccount) -> bool:
    """Whether the server at `url`, whose secrets are in `home`, does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await _works(home, url, node):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(PAUSE_SECONDS)
    return True


async def _works(home: Path, url: str, node: NodeAccount) -> bool:
    login = nats_server.shared_login(home)
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
        async with (
            connected(url, login["NATS_USER"], login["NATS_PASSWORD"]) as core,
            connected(url, node.node_id, node.password) as own,
        ):
            heard = await core.subscribe(node_subject(node.node_id, "hello"))
            await core.flush()
            await own.publish(SAYS["hello"], b"{}")
            await own.flush()
            await heard.next_msg(PAUSE_SECONDS)
            return True
    return False


@contextlib.asynccontextmanager
async def connected(url: str, user: str, password: str) -> AsyncIterator[Client]:
    """One connection that is not made again; `nats.errors.Error` or OSError where it is refused."""
    client = Client()
    try:
        await client.connect(url, user=user, password=password, **ONE_TRY, connect_timeout=1, error_cb=_quiet)
        yield client
    finally:
        await client.close()


class Refusal(Enum):
    """Why a login did not work."""

    UNREACHABLE = "unreachable"
    DENIED = "denied"


async def try_login(invited: Invitation) -> Refusal | None:
    """Log in once with an invitation; None when it worked."""
    context = None
    if invited.nats_url.startswith("tls:"):
        context = ssl.create_default_context(cadata=invited.ca or None)
    heard: list[Exception] = []

    async def note(error: Exception) -> None:
        heard.append(error)

    client = Client()
    try:
        options: dict[str, Any] = {"tls": context} if context else {}
        await client.connect(
            invited.nats_url,
            user=invited.node_id,
            password=invited.password,
            **ONE_TRY,
            connect_timeout=REACH_SECONDS,
            error_cb=note,
            **options,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        denied = any("authorization" in str(each).lower() for each in (error, *heard))
        return Refusal.DENIED if denied else Refusal.UNREACHABLE
    finally:
        with contextlib.suppress(TimeoutError):  # after a broken handshake it would wait for ever
            await asyncio.wait_for(client.close(), REACH_SECONDS)
    return None


async def _quiet(_error: Exception) -> None:
    """A refusal is an answer."""
