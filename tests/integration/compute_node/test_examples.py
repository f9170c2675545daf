"""The examples as a reader runs them: processes of their own beside the real queue, registry and NATS."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.compute_node.test_worker import cluster
from tests.integration.work_marshaling.cluster import ended, submit, until
from tests.support import waiting
from tests.support.nats import NatsServer
from tests.support.scripted_engine import ScriptedEngine
from work_marshaling.service import WorkMarshaling

EXAMPLES = Path(__file__).parents[3] / "examples"
NODE = "example.node"


@asynccontextmanager
async def example(server: NatsServer, *argv: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Running until the block ends; then SIGTERM must end it with 0."""
    environment = {**os.environ, "NATS_URL": server.url, "NATS_HOST": "127.0.0.1", "NODE_ID": NODE}
    environment |= {"NATS_PORT": str(server.port), "LOG_LEVEL": "WARNING", **more}
    process = await asyncio.create_subprocess_exec(*argv, env=environment)
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def perl() -> list[str]:
    found = shutil.which("perl")
    if found is None:
        pytest.skip("perl is not installed")
    return [found, str(EXAMPLES / "worker.pl")]


def python(name: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name)]


async def knows(service: WorkMarshaling, work_type: str) -> None:
    def takes() -> bool:
        node = service.nodes.fleet.nodes.get(NODE)
        return node is not None and node.takes(work_type)

    await until(takes, 20)


async def both_ends(client: httpx.AsyncClient, work_type: str, payload: object, result: object) -> None:
    """One item that can be done, one whose payload is of no use."""
    good = await submit(client, work_type=work_type, payload=payload)
    bad = await submit(client, work_type=work_type, payload={"text": ["no text"]})
    item = await ended(client, good)
    assert (item["status"], item["result"], item["assigned_node"]) == ("completed", result, NODE)
    item = await ended(client, bad)
    assert (item["status"], item["error_message"]) == ("failed", "text is missing")


@pytest.mark.parametrize("language", ["python", "perl"])
async def test_a_worker_does_its_work_also_after_nats_was_away(
    nats_server: NatsServer, language: str
) -> None:
    argv: Sequence[str] = python("worker.py") if language == "python" else perl()
    work_type = "word-count" if language == "python" else "reverse"
    result = {"words": 2} if language == "python" else {"text": "näts olleh"}
    payload = {"text": "hello stän"}
    async with cluster(nats_server.url) as (service, client), example(nats_server, *argv):
        await knows(service, work_type)
        await both_ends(client, work_type, payload, result)
        nats_server.stop(kill=True)
        await until(lambda: not service.is_ready())
        nats_server.start()
        await until(service.is_ready, 20)
        await both_ends(client, work_type, payload, result)


async def test_any_openai_server_becomes_a_node_and_tells_the_text_as_it_comes(
    nats_server: NatsServer,
) -> None:
    engine = ScriptedEngine(tokens=8, between_seconds=0.2)
    async with engine.running(), cluster(nats_server.url) as (service, client):
        url = f"{engine.url}/v1"
        async with example(nats_server, *python("openai_worker.py"), OPENAI_URL=url, OPENAI_MODEL="tiny"):
            await knows(service, "inference")
            work_id = await submit(client, work_type="inference", payload={"prompt": "hi"})
            told: list[int] = []

            async def progress() -> bool:
                item = (await client.get(f"/api/v1/work/{work_id}")).json()
                if item["progress"]:
                    told.append(item["progress"]["chunks"])
                return bool(item["status"] == "completed")

            await waiting.until(progress, 20)
            item = await ended(client, work_id)
    assert engine.bodies[0]["model"] == "tiny"
    assert engine.bodies[0]["stream"] is True
    assert item["result"]["text"] == "".join(f"t{number} " for number in range(8))
    assert item["result"]["ttft_ms"] < item["result"]["duration_ms"]
    assert told
    assert 0 < told[0] < 8
