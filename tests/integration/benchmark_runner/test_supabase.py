"""Ended runs in Supabase's table, by the stand-in before a real PostgreSQL; its absence fails nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.benchmark_runner.runners import RUN, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.supabase import TestProject, client_of, migrated_cluster, stand_in_project, why_not_here
from tests.support.waiting import until

ASK: dict[str, Any] = {"model_name": "m", "context_lengths": [8], "output_tokens": 4, "background": False}


@pytest.fixture(scope="module")
def project() -> Iterator[TestProject]:
    if reason := why_not_here():
        pytest.skip(reason)
    with migrated_cluster() as cluster, stand_in_project(cluster) as made:
        yield made


async def test_a_run_is_a_row_unless_it_asks_not_to_be(tmp_path: Path, project: TestProject) -> None:
    service = runner(tmp_path, SUPABASE_URL=project.url, SUPABASE_SERVICE_KEY=project.service_key)
    async with (
        scripted(Script(ttft=0.001, gap=0.001)) as server,
        serving(service) as client,
        client_of(project) as table,
    ):
        private = await client.post(RUN, json=ASK | {"endpoint": server.url, "publish_to_tensorzero": False})
        run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
        rows: list[Any] = []

        async def there() -> bool:
            rows[:] = (await table.table("benchmark_results").select("*").execute()).data
            return bool(rows)

        await until(there)
        (row,) = rows
        assert row["benchmark_id"] == run["benchmark_id"] != private.json()["benchmark_id"]
        assert row["cells"][0]["output_tokens_per_s"] == run["cells"][0]["output_tokens_per_s"]
        assert row["status"] == "completed"
    if project.anon_key is not None:
        async with client_of(project, project.anon_key) as stranger:
            with pytest.raises(Exception, match="permission denied"):
                await stranger.table("benchmark_results").select("*").execute()


async def test_a_project_that_is_down_fails_no_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = {"SUPABASE_URL": "http://127.0.0.1:1", "SUPABASE_SERVICE_KEY": "a-secret-key"}
    async with (
        scripted(Script(ttft=0.001, gap=0.001)) as server,
        serving(runner(tmp_path, **given)) as client,
    ):
        run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
        assert run["status"] == "completed"
    assert "a-secret-key" not in "".join(capfd.readouterr())
