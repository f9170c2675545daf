"""Keys, address and tables of a Supabase project: what is amiss is said, and nobody else gets in."""

import json
from typing import Any

import pytest
from postgrest.exceptions import APIError
from pydantic import SecretStr

from compute_common.schemas.node import NodeDocument
from node_registry.registrar import Registrar
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from node_registry.table import NodeTable
from tests.integration.node_registry.supabase import add, bare_store, own_nodes, registry, rows_of, storage
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.ports import free_port
from tests.support.postgrest import key_for
from tests.support.supabase import TestProject, client_of
from tests.support.waiting import until


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


async def test_a_project_without_the_tables_is_told_what_to_do(stand_in: TestProject) -> None:
    assert stand_in.cluster is not None
    stand_in.cluster.execute("alter table public.compute_drains rename to hidden")
    service = registry(stand_in)
    try:
        async with serving(service):
            await until(lambda: "deploy/supabase/migrations" in (service.store.trouble or ""))
    finally:
        stand_in.cluster.execute("alter table public.hidden rename to compute_drains")


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
