"""Supabase projects to test with."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.postgres import PostgresCluster
from tests.support.supabase import (
    TestProject,
    client_of,
    migrated_cluster,
    real_project,
    stand_in_project,
    why_not_here,
    why_not_real,
)


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """One cluster for all tests of a process."""
    if reason := why_not_here():
        pytest.skip(reason)
    with migrated_cluster() as cluster:
        yield cluster


@pytest.fixture
def stand_in(postgres_cluster: PostgresCluster) -> Iterator[TestProject]:
    """The stand-in, for tests that take it down or look behind it."""
    with stand_in_project(postgres_cluster) as project:
        yield project


@pytest.fixture(params=["stand-in", "real"])
async def project(request: pytest.FixtureRequest) -> AsyncIterator[TestProject]:
    """The stand-in, and the real project the environment names."""
    if request.param == "stand-in":
        yield request.getfixturevalue("stand_in")
        return
    if reason := why_not_real():
        pytest.skip(reason)
    real = real_project()
    yield real
    async with client_of(real) as client:
        for table in ("compute_nodes", "compute_drains"):
            await client.table(table).delete().like("node_id", f"{real.prefix}*").execute()
