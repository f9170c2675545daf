"""A service on a real socket, for clients that bring their own HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn

from compute_common.shell import Service, create_app
from tests.support.ports import free_port
from tests.support.waiting import until


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """The service under uvicorn; yields its base URL."""
    port = free_port()
    config = uvicorn.Config(create_app(service), host="127.0.0.1", port=port, log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done(), 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def attach(base: str, endpoint: str, model: str, name: str) -> None:
    """Make the server at `endpoint` an instance."""
    body = {"endpoint": endpoint, "model_name": model, "instance_name": name}
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"{base}/api/v1/vllm/attach", json=body)
    assert answer.status_code == 201, answer.text
