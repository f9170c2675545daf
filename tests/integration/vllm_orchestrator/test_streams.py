"""What a client sees while an instance loads and serves, from its own orchestrator and from another."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.vllm_orchestrator.hosts import INSTANCES, SMOLLM, ledger
from tests.integration.vllm_orchestrator.program import Orchestrator
from tests.support.nats import NatsServer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(90)]
DEPLOY = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}


async def events(client: httpx.AsyncClient, path: str) -> AsyncIterator[tuple[str, Any]]:
    """(event, data) of a stream of server-sent events."""
    async with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = "message"
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))
                kind = "message"


async def until_removed(client: httpx.AsyncClient, ready: asyncio.Event) -> list[tuple[str, Any]]:
    seen = []
    async for kind, data in events(client, f"{INSTANCES}/smol/events"):
        seen.append((kind, data))
        if kind == "ready":
            ready.set()
    return seen


async def until_line(client: httpx.AsyncClient, wanted: str) -> str:
    async for _kind, line in events(client, f"{INSTANCES}/smol/logs/events"):
        if wanted in line:
            return str(line)
    return "the stream ended"


async def test_progress_and_log_from_here_and_there(nats_server: NatsServer, tmp_path: Path) -> None:
    one = Orchestrator(nats_server, tmp_path / "one")
    two = Orchestrator(nats_server, tmp_path / "two", "host-two")
    async with ledger(nats_server, tmp_path / "one"), one.client() as here, two.client() as there:
        try:
            await asyncio.gather(one.start(), two.start())
            await here.post("/api/v1/vllm/deploy", json=DEPLOY)
            both_ready = [asyncio.Event(), asyncio.Event()]
            followed = [
                asyncio.create_task(until_removed(client, ready))
                for client, ready in zip((here, there), both_ready, strict=True)
            ]
            async with asyncio.timeout(30):
                for client in (here, there):
                    assert "model loaded" in await until_line(client, "model loaded")
                for ready in both_ready:
                    await ready.wait()
            await here.delete(f"{INSTANCES}/smol")
            async with asyncio.timeout(20):
                local, remote = await asyncio.gather(*followed)
            for seen in (local, remote):
                kinds = [kind for kind, _data in seen]
                assert kinds[-1] == "removed"
                assert kinds.index("ready") < kinds.index("stopping")
                phases = [data["progress"]["phase"] for _kind, data in seen[:-1] if data["progress"]]
                assert "ready" in phases, "which phases come before depends on how fast it loads"
            percents = [
                d["progress"]["percent"] for k, d in local[:-1] if d["status"] in ("starting", "ready")
            ]
            known = [percent for percent in percents if percent is not None]
            assert known == sorted(known)
            assert known[-1] == 100
            missing = await here.get(f"{INSTANCES}/nobody/events")
            assert missing.status_code == 404
        finally:
            one.kill()
            two.kill()
