"""Outages of Supabase, played with the stand-in: nothing is lost, nobody waits."""

import asyncio
import os
from datetime import timedelta

from compute_common.times import utc_now
from tests.integration.node_registry.supabase import (
    add,
    is_settled,
    own_nodes,
    registry,
    rows_of,
    storage,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.supabase import TestProject
from tests.support.waiting import until


async def test_an_outage_loses_nothing_and_resurrects_nothing(
    stand_in: TestProject, nats_server: NatsServer
) -> None:
    server = stand_in.stand_in
    assert server is not None
    service = registry(stand_in, nats_server.url)
    async with serving(service) as client:
        for name in ("changed", "deleted", "drained", "undrained", "untouched"):
            await add(client, stand_in, name, cpu={"cores": 4})
        await client.post(f"/api/v1/nodes/{stand_in.prefix}undrained/drain")
        await is_settled(service)
        server.stop()
        await add(client, stand_in, "changed", cpu={"cores": 8})
        await add(client, stand_in, "new")
        await add(client, stand_in, "brief")
        assert (await client.delete(f"/api/v1/nodes/{stand_in.prefix}deleted")).status_code == 204
        assert (await client.delete(f"/api/v1/nodes/{stand_in.prefix}brief")).status_code == 204
        assert (await client.post(f"/api/v1/nodes/{stand_in.prefix}drained/drain")).status_code == 200
        assert (await client.post(f"/api/v1/nodes/{stand_in.prefix}undrained/undrain")).status_code == 200
        await until(lambda: "does not answer" in (service.store.trouble or ""))
        check = await storage(client)
        assert not check["ok"]
        assert "records wait" in check["detail"]
        await service.store.reload()  # as after a reconnect: reading fails, what waits stays
        assert service.store.waiting >= 6
        server.start()
        await is_settled(service)
        live = await own_nodes(client, stand_in)
        assert (await storage(client))["ok"]
    rows = await rows_of(stand_in, "compute_nodes")
    stored = {name for name, row in rows.items() if row["deleted_at"] is None}
    assert stored == {"changed", "drained", "undrained", "untouched", "new"} == set(live)
    assert rows["changed"]["record"]["document"]["cpu"]["cores"] == 8

    second = registry(stand_in)
    async with serving(second) as client:
        await is_settled(second)
        back = await own_nodes(client, stand_in)
    assert set(back) == stored
    assert back["changed"]["cpu"]["cores"] == 8
    assert {name for name, node in back.items() if node["is_draining"]} == {"drained"}


async def test_a_restart_during_the_outage_loses_nothing_either(stand_in: TestProject) -> None:
    server = stand_in.stand_in
    assert server is not None
    first = registry(stand_in)
    async with serving(first) as client:
        for name in ("deleted", "drained", "undrained"):
            await add(client, stand_in, name)
        await client.post(f"/api/v1/nodes/{stand_in.prefix}undrained/drain")
        await is_settled(first)
        server.stop()
        await add(client, stand_in, "new")
        await client.delete(f"/api/v1/nodes/{stand_in.prefix}deleted")
        await client.post(f"/api/v1/nodes/{stand_in.prefix}drained/drain")
        await client.post(f"/api/v1/nodes/{stand_in.prefix}undrained/undrain")
    second = registry(stand_in)
    async with serving(second) as client:
        await until(lambda: "does not answer" in (second.store.trouble or ""))
        known = set(await own_nodes(client, stand_in))
        assert "new" in known, "known again before the store is"
        assert "deleted" not in known
        server.start()
        await is_settled(second)
        nodes = await own_nodes(client, stand_in)
    assert {name: node["is_draining"] for name, node in nodes.items()} == {
        "drained": True,
        "undrained": False,
        "new": False,
    }
    kept = second.settings.compute_home / "node-registry"
    assert list(kept.iterdir()) == [], "nothing waits any more"
    third = registry(stand_in)
    async with serving(third) as client:
        await is_settled(third)
        assert set(await own_nodes(client, stand_in)) == set(nodes)


async def test_a_file_that_is_too_old_is_left(stand_in: TestProject) -> None:
    server = stand_in.stand_in
    assert server is not None
    server.stop()
    first = registry(stand_in)
    async with serving(first) as client:
        await add(client, stand_in, "a")
    (kept,) = (first.settings.compute_home / "node-registry").iterdir()
    two_hours_ago = (utc_now() - timedelta(hours=2)).timestamp()
    os.utime(kept, (two_hours_ago, two_hours_ago))
    server.start()
    second = registry(stand_in)
    async with serving(second) as client:
        await is_settled(second)
        assert await own_nodes(client, stand_in) == {}


async def test_a_store_that_hangs_holds_nobody_up(stand_in: TestProject) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(never, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    service = registry(stand_in, SUPABASE_URL=f"http://127.0.0.1:{port}", SUPABASE_TIMEOUT_SECONDS=0.2)
    async with listener, serving(service) as client:
        async with asyncio.timeout(2):
            await add(client, stand_in, "a")
        await until(lambda: "does not answer" in (service.store.trouble or ""))
        assert (await client.get("/readyz")).status_code == 200
