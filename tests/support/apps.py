"""Run one service in this process, with its real lifespan, and talk to it over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from compute_common.shell import Service, create_app


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The service started; the client reaches its routes without a socket."""
    app = create_app(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client,
    ):
        yield client
