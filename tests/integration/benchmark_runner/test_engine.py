"""A real llama-server with the real 135M model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.benchmark_runner.runners import RUN, counting, runner
from tests.support.apps import serving
from tests.support.llama_server import llama_server

pytestmark = pytest.mark.engine


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
