"""Three NATS servers of one cluster, for the tests that kill one of them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compute_common.bus import Bus
from compute_common.bus_auth import NatsSettings
from tests.faults.servers import Server, meta_leader_is_there, three
from tests.support import waiting


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Server]]:
    own = three(tmp_path)
    await asyncio.gather(*(server.start() for server in own))
    yield own
    for server in own:
        await server.kill()


@pytest.fixture
async def cluster(servers: list[Server]) -> AsyncIterator[Bus]:
    """A connection to the three, once JetStream has a leader there."""
    own = Bus(NatsSettings(NATS_URL=",".join(server.url for server in servers)), "test")
    own.start()
    assert await own.wait_connected(5)

    await waiting.until(lambda: meta_leader_is_there(own), 30)
    yield own
    await own.stop()
