"""A node whose process dies is offline within two seconds, by the server's own word."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from nats.aio.client import Client

from compute_cli import nats_server as embedded
from compute_node import Worker
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer

NODE = "box.1"
PROGRAMS = {
    "detector": ("uvicorn", "resource_detector.app:app", "--port", "0", "--log-level", "warning"),
    "node program": ("compute_node", "--join"),
}


def registry(server: NatsServer, **settings: str) -> NodeRegistry:
    login = {"NATS_URL": server.url, "NODE_ID": "registry", **embedded.system_login(server.home)}
    return NodeRegistry(Settings.model_validate(login | settings))


@asynccontextmanager
async def program(server: NatsServer, kind: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *PROGRAMS[kind]),
        env={"PATH": "/usr/bin:/bin", "NATS_URL": server.url, "NODE_ID": NODE, "LOG_LEVEL": "WARNING"},
        cwd=server.home,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status(client: httpx.AsyncClient) -> str | None:
    answer = await client.get(f"/api/v1/nodes/{NODE}")
    return str(answer.json()["status"]) if answer.status_code == 200 else None


async def until_status(client: httpx.AsyncClient, wanted: str, seconds: float = 15) -> None:
    async def holds() -> bool:
        return await status(client) == wanted

    await waiting.until(holds, seconds)


@pytest.mark.parametrize("kind", PROGRAMS)
async def test_killed(nats_server: NatsServer, kind: str) -> None:
    async with serving(registry(nats_server)) as client, program(nats_server, kind) as process:
        await until_status(client, "online")
        await asyncio.sleep(1.2)  # it has lived longer than a connection for one message
        process.kill()
        killed = time.monotonic()
        await until_status(client, "offline", 5)
        assert time.monotonic() - killed <= 2.0


async def test_a_restarted_server_blames_nobody(nats_server: NatsServer) -> None:
    service = registry(nats_server)
    worker = Worker(NODE, nats_url=nats_server.url, announce=True)
    async with serving(service) as client:
        await worker.start()
        try:
            await until_status(client, "online")
            await asyncio.sleep(1.2)
            nats_server.stop()
            nats_server.start()
            await waiting.until(lambda: service.bus.connected)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                assert await status(client) == "online"
                await asyncio.sleep(0.05)
            assert (await client.get("/healthz")).json()["checks"]["disconnect_events"]["ok"]
        finally:
            await worker.stop()
        await until_status(client, "offline", 3)


async def test_a_second_connection_under_the_name_keeps_the_node(nats_server: NatsServer) -> None:
    first, second = Client(), Client()
    for own in (first, second):
        await own.connect(nats_server.url, name=NODE)
    async with serving(registry(nats_server)) as client:
        await client.post("/register", json={"node_id": NODE, "hostname": "h"})
        await asyncio.sleep(1.2)
        await first.close()
        await asyncio.sleep(2.5)
        assert await status(client) == "online", "it was open before the registry came up"
        await second.close()
        await until_status(client, "offline", 3)


async def test_health_says_when_only_silence_tells(nats_server: NatsServer) -> None:
    async with serving(NodeRegistry(Settings.model_validate({"NATS_URL": nats_server.url}))) as client:
        health = (await client.get("/healthz")).json()
        assert health["status"] == "healthy"
        assert "silence only" in health["checks"]["disconnect_events"]["detail"]
    wrong = registry(nats_server, NATS_SYS_PASSWORD="guess")
    async with serving(wrong) as client:
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["checks"]["disconnect_events"]["ok"]) == ("degraded", False)
        assert "guess" not in str(health)
