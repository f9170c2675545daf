"""A real llama-server with the real 135M model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.benchmark_runner.runners import RUN, counting, runner
from tests.support.apps import serving
from tests.support.llama_server import llama_server

pytestmark = pytest.mark.engine
KEY = "sk-not-to-be-seen"


@pytest.fixture
async def llama(tmp_path: Path) -> AsyncIterator[str]:
    async with llama_server(tmp_path, "-c", "1024", "-np", "2") as url:
        yield url


async def test_exact_prompts_and_answers_on_a_real_engine(tmp_path: Path, llama: str) -> None:
    async with serving(runner(tmp_path)) as client:
        ask = {
            "model_name": "smol",
            "endpoint": llama,
            "batch_sizes": [1, 2],
            "context_lengths": [128],
            "output_tokens": 16,
            "iterations": 2,
            "background": False,
        }
        for cell in (await counting(client, ask))["cells"]:
            assert (cell["errors"], cell["note"]) == (0, None)
            assert 0 < cell["ttft_ms"]["p50"] < cell["e2e_ms"]["p50"]
            assert cell["output_tokens_per_s"] > 1
        beyond = (await client.post(RUN, json=ask | {"context_lengths": [4096]})).json()
        assert beyond["status"] == "failed"
        assert beyond["cells"][0]["error_kinds"] == {"http-400": 6}


async def test_a_real_engine_that_wants_a_key(tmp_path: Path) -> None:
    ask = {"model_name": "smol", "context_lengths": [16], "output_tokens": 4, "background": False}
    async with llama_server(tmp_path, "-c", "256", "--api-key", KEY) as url:
        async with serving(runner(tmp_path)) as client:
            refused = (await client.post(RUN, json=ask | {"endpoint": url})).json()
        assert refused["cells"][0]["error_kinds"] == {"unauthorised": 1}
        async with serving(runner(tmp_path, BENCHMARK_ENDPOINT_KEYS=f"{url}={KEY}")) as client:
            run = (await client.post(RUN, json=ask | {"endpoint": url})).json()
    assert run["status"] == "completed", run["error"]
    assert (run["cells"][0]["errors"], run["cells"][0]["prompt_tokens"]) == (0, [16, 16])
    assert KEY not in str(run)
