"""An endpoint that wants an API key: sent where it was named for, and seen nowhere else."""

from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.benchmark_runner.runners import RUN, ended, runner
from tests.integration.benchmark_runner.scripted import Script, scripted
from tests.support.apps import serving
from tests.support.waiting import until

KEY = "sk-not-to-be-seen"
ASK: dict[str, Any] = {"model_name": "m", "context_lengths": [8], "output_tokens": 8, "repeats": 1}


def children() -> str:
    """What anybody of this user can read of the processes below this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            found.append(f"{child.cmdline()} {child.environ()}")
        except psutil.Error:
            continue
    return " ".join(found)


async def told(client: httpx.AsyncClient, benchmark_id: str) -> str:
    """Everything the service says of a run."""
    paths = ("", "/report", "/export?format=csv", "/export?format=json", "/events")
    answers = [await client.get(f"/api/v1/benchmark/{benchmark_id}{path}") for path in paths]
    assert [answer.status_code for answer in answers] == [200] * len(paths)
    return " ".join(answer.text for answer in answers)


async def test_the_key_reaches_the_server_and_nobody_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(Script(ttft=0.3, gap=0.01, key=KEY)) as server:
        monkeypatch.setenv("BENCHMARK_ENDPOINT_KEYS", f"{server.url}={KEY}")
        service = runner(tmp_path, BENCHMARK_ENDPOINT_KEYS=f"{server.url}={KEY}")
        async with serving(service) as client:
            run = (await client.post(RUN, json=ASK | {"endpoint": server.url})).json()
            await until(lambda: bool(server.prompts))
            seen = children()
            done = await ended(client, run["benchmark_id"])
            assert done["status"] == "completed", done["error"]
            assert server.shown == {f"Bearer {KEY}"}
            told_of_it = await told(client, run["benchmark_id"])
    files = [path.read_text() for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert "benchmark_runner.generator" in seen
    assert files
    out = capfd.readouterr()
    assert KEY not in " ".join([seen, told_of_it, *files, out.out, out.err])


async def test_without_a_key_of_its_own_a_server_gets_none(tmp_path: Path) -> None:
    async with scripted(Script(key=KEY)) as server:
        service = runner(tmp_path, BENCHMARK_ENDPOINT_KEYS=f"{server.url}/other={KEY}")
        async with serving(service) as client:
            ask = ASK | {"endpoint": server.url, "background": False}
            run = (await client.post(RUN, json=ask)).json()
    assert run["status"] == "failed"
    assert "BENCHMARK_ENDPOINT_KEYS" in run["error"]
    assert run["cells"][0]["error_kinds"] == {"unauthorised": 1}
    assert server.shown == {""}


async def test_a_wrong_key_is_not_repeated_though_the_server_does(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with scripted(Script(key="another")) as server:
        service = runner(tmp_path, BENCHMARK_ENDPOINT_KEYS=f"{server.url}/v1={KEY}")
        async with serving(service) as client:
            ask = ASK | {"endpoint": server.url, "background": False}
            run = (await client.post(RUN, json=ask)).json()
            said = await told(client, run["benchmark_id"])
    assert run["cells"][0]["error_kinds"] == {"unauthorised": 1}
    assert server.shown == {f"Bearer {KEY}"}
    out = capfd.readouterr()
    assert KEY not in " ".join([str(run), said, out.out, out.err])


async def test_a_key_allows_no_endpoint_and_aiperf_is_not_given_it(tmp_path: Path) -> None:
    keys = f"http://192.0.2.7={KEY},http://127.0.0.1:9={KEY}"
    program = tmp_path / "aiperf"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    service = runner(tmp_path, BENCHMARK_ENDPOINT_KEYS=keys, AIPERF_BIN=str(program))
    async with serving(service) as client:
        answer = await client.post(RUN, json=ASK | {"endpoint": "http://192.0.2.7"})
        assert (answer.status_code, KEY in answer.text) == (403, False)
        answer = await client.post(RUN, json=ASK | {"endpoint": "http://127.0.0.1:9", "tool": "aiperf"})
        assert (answer.status_code, KEY in answer.text) == (422, False)
        assert "builtin" in answer.text
