"""Run one service in this process behind a real port, for programs and browsers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from compute_common.shell import Service, create_app
from tests.support.ports import free_port
from tests.support.waiting import until


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[str]:
    """The service's address while the block runs."""
    port = free_port()
    config = uvicorn.Config(
        create_app(service), port=port, log_level="error", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started or task.done(), 20)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task
