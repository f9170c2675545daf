"""Invitations while a server runs: one that was taken stays, one whose time is up lets nobody in."""

import time

from compute_cli import doorkeeper, node_accounts
from compute_cli.node_login import comes_up
from tests.integration.compute_cli.accounts import inside, is_refused, url_of
from tests.support import waiting
from tests.support.nats import NatsServer


async def test_taken_ones_stay_and_late_ones_are_void(nats_server: NatsServer) -> None:
    home = nats_server.home
    until = time.time() + 2
    taken = node_accounts.add(home, "taken", until)
    late = node_accounts.add(home, "late", until)
    assert node_accounts.reload(home)
    assert await comes_up(home, nats_server.url, taken)
    async with inside(nats_server, taken) as (client,):
        await doorkeeper.look(home, nats_server.url)
        assert {node.node_id: node.expires_at for node in node_accounts.read(home)} == {
            "taken": None,
            "late": until,
        }
        await waiting.until(lambda: time.time() > until)
        await doorkeeper.look(home, nats_server.url)
        assert [node.node_id for node in node_accounts.read(home)] == ["taken"]

        async def is_out() -> bool:
            return await is_refused(url_of(nats_server, late))

        await waiting.until(is_out)
        assert client.client.is_connected


async def test_a_server_that_does_not_tell_ends_no_invitation_early(nats_server: NatsServer) -> None:
    node_accounts.add(nats_server.home, "open", time.time() + 60)
    nats_server.stop()
    await doorkeeper.look(nats_server.home, nats_server.url)
    assert [node.node_id for node in node_accounts.read(nats_server.home)] == ["open"]
