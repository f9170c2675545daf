"""A Supabase project for tests: the stand-in before a real PostgreSQL, or the real one the environment names.

A real project must be one for tests, with the migrations applied; rows written there are deleted afterwards.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
from pydantic import SecretStr
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from tests.support import environment
from tests.support.postgres import PostgresCluster, binaries
from tests.support.postgrest import PostgrestStandIn, key_for

MIGRATIONS = sorted((Path(__file__).parents[2] / "deploy" / "supabase" / "migrations").glob("*.sql"))


@dataclass
class TestProject:
    """`prefix` begins every node id a test writes."""

    __test__ = False

    url: str
    service_key: SecretStr
    anon_key: str | None
    stand_in: PostgrestStandIn | None = None
    cluster: PostgresCluster | None = None
    prefix: str = field(default_factory=lambda: f"t{uuid4().hex[:10]}-")


def why_not_here() -> str | None:
    """Why the stand-in cannot run; None when it can."""
    return None if binaries() else "PostgreSQL is not installed (scripts/test-deps.sh)"


def why_not_real() -> str | None:
    """Why there is no real project to test with; None when there is one."""
    given = environment.SUPABASE_URL and environment.SUPABASE_SERVICE_KEY
    return None if given else "no real project: set SUPABASE_URL and SUPABASE_SERVICE_KEY"


@contextmanager
def migrated_cluster() -> Iterator[PostgresCluster]:
    """PostgreSQL with Supabase's roles and every migration, applied twice to show that it may be."""
    folder = binaries()
    assert folder is not None
    cluster = PostgresCluster(folder)
    cluster.start()
    try:
        for migration in MIGRATIONS * 2:
            cluster.execute(migration.read_text())
        yield cluster
    finally:
        cluster.stop()


@contextmanager
def stand_in_project(cluster: PostgresCluster) -> Iterator[TestProject]:
    """An empty project on the cluster."""
    cluster.execute("truncate public.compute_nodes, public.compute_drains, public.benchmark_results")
    stand_in = PostgrestStandIn(cluster.dsn("authenticator"))
    stand_in.start()
    try:
        key = SecretStr(key_for("service_role"))
        yield TestProject(stand_in.url, key, key_for("anon"), stand_in, cluster)
    finally:
        stand_in.stop()


def real_project() -> TestProject:
    """The project of the environment."""
    url, key = environment.SUPABASE_URL, environment.SUPABASE_SERVICE_KEY
    assert url is not None
    assert key is not None
    return TestProject(url, SecretStr(key), environment.SUPABASE_ANON_KEY)


@asynccontextmanager
async def client_of(project: TestProject, key: str | None = None) -> AsyncIterator[AsyncClient]:
    """A client of the test's own, with the service key unless another is given."""
    async with httpx.AsyncClient(timeout=20) as http:
        options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        yield await acreate_client(project.url, key or project.service_key.get_secret_value(), options)
