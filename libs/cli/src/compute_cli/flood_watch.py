"""A node account that floods the server is kept out for a while: nats-server has no rate limit of its own.

What arrives in the work log has cost everybody already, and waits before what honest nodes say. So nothing
behind the server can help: the account itself is taken out of the configuration, which ends its connections.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from compute_cli import node_accounts
from compute_cli.floods import Floods
from compute_cli.nats_system import system_client
from compute_common import wire_json
from compute_common.subjects import NODE_ACCOUNT, untoken

LOOK_SECONDS = 0.25
AGAIN_SECONDS = 2.0
ASK_SECONDS = 1.0
COUNTS = "$SYS.REQ.ACCOUNT.PING.STATZ"
TROUBLE = (nats.errors.Error, OSError, TimeoutError, ValueError, AttributeError)


class FloodWatch:
    """`say` hears of each account that is kept out, and of its return."""

    def __init__(self, home: Path, nats_url: str, say: Callable[[str], None]) -> None:
        self._home = home
        self._nats_url = nats_url
        self._say = say
        self._floods = Floods()

    async def keep(self) -> None:
        """For ever; costs nothing while there is no node account."""
        while True:
            with contextlib.suppress(*TROUBLE):  # the server is away, or the disk full: the next look does it
                await self._watch()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        if not node_accounts.read(self._home):
            return
        async with system_client(self._home, self._nats_url) as client:
            while client.is_connected:
                await self._look(client)
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, client: Client) -> None:
        answer = await client.request(COUNTS, b'{"accounts": []}', timeout=ASK_SECONDS)
        totals = messages_of(wire_json.parse_object(answer.data))
        over = self._floods.step(totals, time.monotonic())
        now = time.time()
        if over:
            await asyncio.to_thread(node_accounts.keep_out, self._home, {n: now + s for n, s in over.items()})
            for node_id, seconds in over.items():
                self._say(
                    f"node '{node_id}' floods NATS: kept out for {seconds:.0f} s; "
                    f"`compute nats revoke-node {node_id}` ends its account"
                )
        for node_id in await asyncio.to_thread(node_accounts.let_in, self._home, now):
            self._say(f"node '{node_id}' may connect to NATS again")


def messages_of(answer: Mapping[str, object]) -> dict[str, int]:
    """Messages that the server has received from each node, by its counts of accounts."""
    data = answer.get("data")
    listed = data.get("account_statz") if isinstance(data, dict) else None
    found: dict[str, int] = {}
    for each in listed if isinstance(listed, list) else []:
        name, received = str(each.get("acc", "")), each.get("received") or {}
        if name.startswith(NODE_ACCOUNT):
            found[untoken(name.removeprefix(NODE_ACCOUNT))] = int(received.get("msgs", 0))
    return found
