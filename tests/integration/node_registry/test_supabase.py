"""The Supabase store: the real client over real HTTP. Outages are played with the stand-in only."""

import asyncio
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from postgrest.exceptions import APIError
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from compute_common.schemas.node import NodeDocument
from compute_common.times import rfc3339, utc_now
from node_registry.registrar import Registrar
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from node_registry.supabase_store import Project, SupabaseStore
from node_registry.table import NodeTable
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.postgrest import key_for
from tests.support.supabase import TestProject, client_of
from tests.support.waiting import until


def registry(project: TestProject, nats_url: str | None = None, **more: Any) -> NodeRegistry:
    """Without a NATS server unless one is named: the store does not need it."""
    given = {
        "NATS_URL": nats_url or f"nats://127.0.0.1:{free_port()}",
        "NATS_WAIT_SECONDS": 2 if nats_url else 0.01,
        "SUPABASE_URL": project.url,
        "SUPABASE_SERVICE_KEY": project.service_key,
        "SUPABASE_TIMEOUT_SECONDS": 5,
        "SUPABASE_RETRY_SECONDS": 0.2,  # an outage of a minute, shortened
        "NODE_REGISTRY_FLUSH_SECONDS": 0.05,
    }
    return NodeRegistry(Settings.model_validate(given | more))


def bare_store(project: TestProject, table: NodeTable) -> SupabaseStore:
    return SupabaseStore(Project(project.url, project.service_key), table, Registrar.now, CollectorRegistry())


def store_of(service: NodeRegistry) -> SupabaseStore:
    assert isinstance(service.store, SupabaseStore)
    return service.store


async def is_settled(service: NodeRegistry) -> None:
    """Everything is written, and was read."""
    store = store_of(service)

    async def all_written() -> bool:
        await store.flush()  # waits for the one that runs
        return store.trouble is None and store.waiting == 0

    await until(all_written)


async def rows_of(project: TestProject, table: str) -> dict[str, dict[str, Any]]:
    """The test's own rows by node id, without the prefix."""
    async with client_of(project) as client:
        query = client.table(table).select("*").like("node_id", f"{project.prefix}*")
        rows: Any = (await query.execute()).data
    return {row["node_id"].removeprefix(project.prefix): row for row in rows}


async def add(client: httpx.AsyncClient, project: TestProject, name: str, **more: Any) -> None:
    body = {"node_id": project.prefix + name, "hostname": f"host-{name}", **more}
    answer = await client.post("/api/v1/nodes/register", json=body)
    assert answer.status_code == 200, answer.text


async def own_nodes(client: httpx.AsyncClient, project: TestProject) -> dict[str, dict[str, Any]]:
    nodes = (await client.get("/api/v1/nodes?limit=1000")).json()["nodes"]
    own = [node for node in nodes if node["node_id"].startswith(project.prefix)]
    return {node["node_id"].removeprefix(project.prefix): node for node in own}


async def storage(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/healthz")
    assert answer.status_code == 200, "the store is never a reason to be unhealthy"
    check: dict[str, Any] = answer.json()["checks"]["storage"]
    return check


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


async def test_nobody_but_the_service_role_reads_or_writes(project: TestProject) -> None:
    table = NodeTable()
    store = bare_store(project, table)
    await store.reload()
    table.announce(NodeDocument(node_id=project.prefix + "a", hostname="h"), Registrar.now())
    store.touch(project.prefix + "a")
    await store.flush()
    await store.close()
    keys = [project.anon_key, key_for("authenticated") if project.stand_in else None]
    given = [key for key in keys if key is not None]
    if not given:
        pytest.skip("set SUPABASE_ANON_KEY beside SUPABASE_URL")
    for key in given:
        async with client_of(project, key) as client:
            row: Any = {"node_id": project.prefix + "evil", "changed_at": "2026-01-01T00:00:00Z"}
            for attempt in (
                client.table("compute_nodes").select("*"),
                client.table("compute_drains").select("*"),
                client.table("compute_drains").upsert(row, on_conflict="node_id"),
                client.table("compute_nodes").delete().eq("node_id", project.prefix + "a"),
            ):
                with pytest.raises(APIError) as refused:
                    await attempt.execute()
                assert refused.value.code == "42501"
    assert set(await rows_of(project, "compute_nodes")) == {"a"}
    assert await rows_of(project, "compute_drains") == {}


async def test_a_wrong_key_is_said_and_harms_nothing(
    project: TestProject, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = SecretStr(key_for("service_role", b"the secret of another project, as long"))
    service = registry(project, SUPABASE_SERVICE_KEY=wrong)
    async with serving(service) as client:
        await until(lambda: "refused" in (service.store.trouble or ""))
        await add(client, project, "a")
        check = await storage(client)
        assert not check["ok"]
        assert "SUPABASE_SERVICE_KEY" in check["detail"]
        assert set(await own_nodes(client, project)) == {"a"}
        shown = (await client.get("/metrics")).text + json.dumps(check)
    printed = capfd.readouterr()
    for text in (shown, printed.out, printed.err, repr(service.settings)):
        assert wrong.get_secret_value() not in text


async def test_the_anon_key_is_named_as_what_it_is(project: TestProject) -> None:
    if project.anon_key is None:
        pytest.skip("set SUPABASE_ANON_KEY beside SUPABASE_URL")
    service = registry(project, SUPABASE_SERVICE_KEY=project.anon_key)
    async with serving(service) as client:
        await until(lambda: "service_role" in (service.store.trouble or ""))
        assert not (await storage(client))["ok"]


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


async def test_a_project_without_the_tables_is_told_what_to_do(stand_in: TestProject) -> None:
    assert stand_in.cluster is not None
    stand_in.cluster.execute("alter table public.compute_drains rename to hidden")
    service = registry(stand_in)
    try:
        async with serving(service):
            await until(lambda: "deploy/supabase/migrations" in (service.store.trouble or ""))
    finally:
        stand_in.cluster.execute("alter table public.hidden rename to compute_drains")


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


@pytest.mark.parametrize("url", ["not a url", "https://[", "ftp://x", "http://user:secret@127.0.0.1:9/"])
async def test_a_url_that_is_none_is_said_without_its_secrets(url: str) -> None:
    given = {"NATS_URL": f"nats://127.0.0.1:{free_port()}", "NATS_WAIT_SECONDS": 0.01}
    settings = Settings.model_validate({**given, "SUPABASE_URL": url, "SUPABASE_SERVICE_KEY": "k"})
    service = NodeRegistry(settings)
    async with serving(service) as client:
        await until(lambda: service.store.trouble not in (None, "not opened yet"))
        check = await storage(client)
    assert not check["ok"]
    assert "secret" not in check["detail"]


async def test_a_url_without_a_key_leaves_jetstream_and_says_so(nats_server: NatsServer) -> None:
    settings = Settings.model_validate({"NATS_URL": nats_server.url, "SUPABASE_URL": "http://127.0.0.1:9"})
    service = NodeRegistry(settings)
    async with serving(service) as client:
        await until(lambda: service.store.trouble is None)
        check = await storage(client)
    assert check["ok"]
    assert "JetStream KV" in check["detail"]
    assert "SUPABASE_SERVICE_KEY" in check["detail"]


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
