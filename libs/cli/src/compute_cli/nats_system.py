"""A connection to the system account of this COMPUTE_HOME's NATS server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client
from pydantic import SecretStr

from compute_cli import nats_server
from compute_common.bus_auth import ONE_TRY, NatsSettings, connect_options


@asynccontextmanager
async def system_client(home: Path, nats_url: str) -> AsyncIterator[Client]:
    """Connected at the first try or not at all: OSError, or an error of nats-py's."""
    login = nats_server.system_login(home)
    settings = NatsSettings(
        NATS_URL=SecretStr(nats_url),
        NATS_USER=login["NATS_SYS_USER"],
        NATS_PASSWORD=SecretStr(login["NATS_SYS_PASSWORD"]),
    ).model_copy(update={"nats_creds": None})
    client = Client()
    try:
        await client.connect(
            servers=settings.server_list,
            **ONE_TRY,
            connect_timeout=1,
            error_cb=_quiet,
            **connect_options(settings),
        )
        yield client
    finally:
        await client.close()


async def _quiet(_error: Exception) -> None:
    """Who asks says itself what went wrong."""
