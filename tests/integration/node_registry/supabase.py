"""A registry on a Supabase project: the real client over real HTTP."""

from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from node_registry.registrar import Registrar
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from node_registry.supabase_store import Project, SupabaseStore
from node_registry.table import NodeTable
from tests.support.ports import free_port
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
