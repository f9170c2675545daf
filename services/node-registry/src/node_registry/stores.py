"""Which store the settings ask for."""

from prometheus_client import CollectorRegistry

from compute_common.bus import Bus
from node_registry.kv_store import KvStore
from node_registry.registrar import Registrar
from node_registry.settings import Settings
from node_registry.store import Store
from node_registry.supabase_store import Project, SupabaseStore
from node_registry.table import NodeTable


def store_for(settings: Settings, bus: Bus, table: NodeTable, registry: CollectorRegistry) -> Store:
    """Supabase when its URL and key are set, else JetStream KV; a half of the two is told in /healthz."""
    url, key = settings.supabase_url, settings.supabase_service_key
    if url and key is not None:
        project = Project(
            url.strip(),
            key,
            timeout_seconds=settings.supabase_timeout_seconds,
            retry_seconds=settings.supabase_retry_seconds,
        )
        return SupabaseStore(project, table, Registrar.now, registry, settings.compute_home / "node-registry")
    store = KvStore(bus, table, Registrar.now, registry)
    if url:
        store.label += ", because SUPABASE_URL is set without SUPABASE_SERVICE_KEY"
    return store
