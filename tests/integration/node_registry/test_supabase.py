"""What the Supabase store keeps and gives back, over real HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from compute_common.schemas.node import NodeDocument
from compute_common.times import rfc3339, utc_now
from node_registry.registrar import Registrar
from node_registry.table import NodeTable
from tests.integration.node_registry.supabase import (
    add,
    bare_store,
    is_settled,
    own_nodes,
    registry,
    rows_of,
    storage,
)
from tests.support.apps import serving
from tests.support.supabase import TestProject, client_of
from tests.support.waiting import until


async def test_nodes_and_drains_come_back_after_a_restart(project: TestProject) -> None:
    gpus = [{"name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564}]
    first = registry(project)
    async with serving(first) as client:
        await add(client, project, "a", tier="GPU_PEER", gpus=gpus, labels={"rack": "7"})
        await add(client, project, "b.c", cpu={"cores": 16})
        await add(client, project, "gone")
        assert (await client.post(f"/api/v1/nodes/{project.prefix}a/drain")).status_code == 200
        assert (await client.post(f"/api/v1/nodes/{project.prefix}b.c/drain")).status_code == 200
        await is_settled(first)
        assert (await client.post(f"/api/v1/nodes/{project.prefix}b.c/undrain")).status_code == 200
        assert (await client.delete(f"/api/v1/nodes/{project.prefix}gone")).status_code == 204
        await is_settled(first)
        before = await own_nodes(client, project)
        check = await storage(client)
        assert check["ok"]
        assert check["detail"].startswith("Supabase at ")
    rows = await rows_of(project, "compute_nodes")
    assert (rows["a"]["hostname"], rows["a"]["tier"], rows["a"]["status"]) == (
        "host-a",
        "GPU_PEER",
        "draining",
    )
    assert rows["gone"]["record"] is None
    assert rows["gone"]["deleted_at"] is not None
    drains = await rows_of(project, "compute_drains")
    assert {name: row["deleted_at"] is None for name, row in drains.items()} == {"a": True, "b.c": False}

    second = registry(project)
    async with serving(second) as client:
        await is_settled(second)
        after = await own_nodes(client, project)
    assert set(after) == {"a", "b.c"}
    assert after["a"]["status"] == "draining"
    for name in after:
        for field in ("hostname", "tier", "gpus", "labels", "cpu", "registered_at", "is_draining"):
            assert after[name].get(field) == before[name].get(field), (name, field)


async def test_a_thousand_nodes_travel_in_batches_and_come_back_in_pages(project: TestProject) -> None:
    table = NodeTable()
    store = bare_store(project, table)
    assert store.trouble == "not opened yet"
    await store.reload()
    names = [f"{project.prefix}{number:04}" for number in range(1250)]
    for name in names:
        table.announce(NodeDocument(node_id=name, hostname="h"), Registrar.now())
        store.touch(name)
    await store.flush()
    assert store.waiting == 0
    if project.stand_in is not None:
        assert project.stand_in.upserts == [200] * 6 + [50]
    await store.close()
    again = NodeTable()
    reading = bare_store(project, again)
    added = await reading.reload()
    await reading.close()
    assert [name for name in sorted(added) if name.startswith(project.prefix)] == names
    assert reading.waiting == 0


async def test_a_row_the_database_refuses_does_not_hold_up_the_others(project: TestProject) -> None:
    service = registry(project)
    async with serving(service) as client:
        await is_settled(service)
        for number in range(9):
            await add(client, project, f"n{number}")
        await add(client, project, "odd", labels={"zero": "\u0000"})
        await is_settled(service)
        metrics = (await client.get("/metrics")).text
        assert 'compute_registry_store_writes_total{outcome="refused"} 1.0' in metrics
    assert set(await rows_of(project, "compute_nodes")) == {f"n{number}" for number in range(9)}


async def test_what_is_stored_never_overrides_what_is_live(stand_in: TestProject) -> None:
    server = stand_in.stand_in
    assert server is not None
    first = registry(stand_in)
    async with serving(first) as client:
        await add(client, stand_in, "a", cpu={"cores": 4})
        await add(client, stand_in, "b", cpu={"cores": 4})
        await is_settled(first)
    server.stop()
    second = registry(stand_in)
    async with serving(second) as client:
        await until(lambda: "does not answer" in (second.store.trouble or ""))
        await add(client, stand_in, "a", cpu={"cores": 64})
        server.start()
        await is_settled(second)
        nodes = await own_nodes(client, stand_in)
    assert {name: node["cpu"]["cores"] for name, node in nodes.items()} == {"a": 64, "b": 4}
    rows = await rows_of(stand_in, "compute_nodes")
    assert rows["a"]["record"]["document"]["cpu"]["cores"] == 64


async def test_tombstones_go_after_an_hour(stand_in: TestProject) -> None:
    old, young = f"{stand_in.prefix}old", f"{stand_in.prefix}young"
    async with client_of(stand_in) as client:
        for name, ago in ((old, timedelta(hours=2)), (young, timedelta())):
            tombstone: Any = {"node_id": name, "deleted_at": rfc3339(utc_now() - ago)}
            await client.table("compute_nodes").insert(tombstone).execute()
    service = registry(stand_in)
    async with serving(service):
        await until(lambda: service.store.trouble is None)
        await service.store.flush()
    assert set(await rows_of(stand_in, "compute_nodes")) == {"young"}


async def test_made_up_ids_fill_no_memory(stand_in: TestProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node_registry.supabase_store.MOST_WAITING", 3)
    table = NodeTable()
    store = bare_store(stand_in, table)
    for number in range(9):
        store.touch(f"made-up-{number}")
    assert store.waiting == 3
    table.announce(NodeDocument(node_id="known", hostname="h"), Registrar.now())
    store.touch("known")
    assert store.waiting == 4, "a known node is always noted"
