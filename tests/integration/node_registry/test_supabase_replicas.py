"""Replicas of the registry on one Supabase project: one writes, and what one removed stays removed."""

from pathlib import Path

from compute_common.schemas.node import NodeDocument
from node_registry.registrar import Registrar
from node_registry.table import NodeTable
from tests.integration.node_registry.supabase import add, bare_store, is_settled, own_nodes, registry, rows_of
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.supabase import TestProject
from tests.support.waiting import until


async def test_what_another_replica_removed_since_does_not_come_back_from_the_file(
    stand_in: TestProject, tmp_path: Path
) -> None:
    server = stand_in.stand_in
    assert server is not None
    other = registry(stand_in, COMPUTE_HOME=tmp_path / "other host")
    first = registry(stand_in)
    async with serving(first) as client:
        await add(client, stand_in, "a")
        await add(client, stand_in, "b")
        await is_settled(first)
    async with serving(other) as client:
        await is_settled(other)
        server.stop()
        first = registry(stand_in)
        async with serving(first) as first_client:
            await add(first_client, stand_in, "a", cpu={"cores": 8})
            await add(first_client, stand_in, "b", cpu={"cores": 8})
        server.start()
        assert (await client.delete(f"/api/v1/nodes/{stand_in.prefix}a")).status_code == 204
        await is_settled(other)
    again = registry(stand_in)
    async with serving(again) as client:
        await is_settled(again)
        assert set(await own_nodes(client, stand_in)) == {"b"}
    rows = await rows_of(stand_in, "compute_nodes")
    assert rows["a"]["deleted_at"] is not None
    assert rows["b"]["record"]["document"]["cpu"]["cores"] == 8


async def test_a_replica_that_missed_a_removal_takes_it_from_the_store(stand_in: TestProject) -> None:
    away = NodeTable()
    name = stand_in.prefix + "a"
    reading = bare_store(stand_in, away)
    away.announce(NodeDocument(node_id=name, hostname="h"), Registrar.now())
    writer = registry(stand_in)
    async with serving(writer) as client:
        await add(client, stand_in, "a")
        await is_settled(writer)
        assert (await client.delete(f"/api/v1/nodes/{name}")).status_code == 204
        await is_settled(writer)
    await reading.reload()
    assert name not in away
    await reading.flush()
    away.announce(NodeDocument(node_id=name, hostname="h"), Registrar.now())
    reading.touch(name)
    await reading.flush()
    await reading.close()
    assert (await rows_of(stand_in, "compute_nodes"))["a"]["deleted_at"] is None, "it announced itself again"


async def test_of_two_replicas_only_the_holder_of_the_lease_writes(
    stand_in: TestProject, nats_server: NatsServer, tmp_path: Path
) -> None:
    assert stand_in.stand_in is not None
    first = registry(stand_in, nats_server.url)
    second = registry(stand_in, nats_server.url, COMPUTE_HOME=tmp_path / "other host")
    name = stand_in.prefix + "a"
    async with serving(second) as client:
        async with serving(first):
            pass  # comes and goes without the lease: writes nothing, takes nothing along
        await add(client, stand_in, "a")
        await is_settled(second)
        written = len(stand_in.stand_in.upserts)
        async with serving(first := registry(stand_in, nats_server.url)) as first_client:
            assert name in first.table
            assert (await first_client.delete(f"/api/v1/nodes/{name}")).status_code == 204
            await until(lambda: name not in second.table)
            await is_settled(second)
        assert (await rows_of(stand_in, "compute_nodes"))["a"]["deleted_at"] is not None
        assert len(stand_in.stand_in.upserts) == written + 1, "only the holder of the lease wrote"
