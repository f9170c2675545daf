"""Open invitations while the suite runs: taken, one becomes an account; when its time is up it is void."""

import asyncio
import contextlib
from pathlib import Path

import nats.errors

from compute_cli import node_accounts
from compute_cli.nats_system import system_client
from compute_common import wire_json

LOOK_SECONDS = 2.0
ASK_SECONDS = 1.0


async def keep(home: Path, nats_url: str) -> None:
    """Look every two seconds, for ever; costs nothing without open invitations."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        with contextlib.suppress(OSError, ValueError):  # a full disk: the next look does it
            await look(home, nats_url)


async def look(home: Path, nats_url: str) -> None:
    """Settle the open invitations, if any."""
    open_ones = [node for node in node_accounts.read(home) if node.expires_at is not None]
    if not open_ones:
        return
    came = await accounts_connected(home, nats_url)
    if node_accounts.settle(home, frozenset(node.node_id for node in open_ones if node.account in came)):
        node_accounts.reload(home)


async def accounts_connected(home: Path, nats_url: str) -> frozenset[str]:
    """The accounts that have a connection to the server now; none where it does not tell."""
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError, ValueError, AttributeError):
        async with system_client(home, nats_url) as client:
            ask = wire_json.dump({"auth": True, "limit": 65_536})
            answer = await client.request("$SYS.REQ.SERVER.PING.CONNZ", ask, timeout=ASK_SECONDS)
            found = wire_json.parse_object(answer.data).get("data", {}).get("connections") or []
            return frozenset(str(each.get("account")) for each in found)
    return frozenset()
