"""Run one service in this process, with its real lifespan, and talk to it over HTTP."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from _pytest.logging import LogCaptureHandler

from compute_common.shell import Service, create_app


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The service started; the client reaches its routes without a socket."""
    root = logging.getLogger()
    captured = [each for each in root.handlers if isinstance(each, LogCaptureHandler)]
    app = create_app(service)
    root.handlers += captured  # the shell takes the log over; `caplog` still hears it
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client,
    ):
        yield client
