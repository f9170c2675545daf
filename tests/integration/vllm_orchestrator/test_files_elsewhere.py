"""A model whose files are on another node is planned anywhere, and runs there or where they are pulled to."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from compute_common.bus import Bus
from gpu_orchestrator.devices import RamReading
from tests.integration.gpu_orchestrator.hosts import Readings
from tests.integration.gpu_orchestrator.hosts import orchestrator as gpu_orchestrator
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    beating,
    engine_pid,
    orchestrator,
    registry,
    until_status,
)
from tests.support.apps import serving
from tests.support.nats import NatsServer
from vllm_orchestrator.models.resolve import demo_gguf

pytestmark = [pytest.mark.engine, pytest.mark.timeout(60)]
ASKED, HOLDER = "asked", "holder"
NAME = "acme/smol"
DEPLOY = {"model_name": NAME, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 1}
EMPTY, FULL = RamReading(16_384, 12_000), RamReading(16_384, 700)


@asynccontextmanager
async def host(
    server: NatsServer, home: Path, node_id: str, ram: RamReading
) -> AsyncIterator[httpx.AsyncClient]:
    service = orchestrator(server, home, node_id)
    ledger = gpu_orchestrator(home, server.url, Readings(ram=ram), node_id)
    async with serving(ledger), serving(service) as client:
        yield client


def give(home: Path) -> Path:
    demo = demo_gguf()
    assert demo is not None
    file = home / "models" / NAME / demo.name
    file.parent.mkdir(parents=True)
    try:
        os.link(demo, file)
    except OSError:
        shutil.copyfile(demo, file)
    return file


@pytest.mark.parametrize(("room", "where"), [(EMPTY, HOLDER), (FULL, ASKED)])
async def test_a_gguf_that_another_node_has(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, room: RamReading, where: str
) -> None:
    file = give(tmp_path / HOLDER)
    async with (
        registry(nats_server),
        beating(bus, HOLDER),
        host(nats_server, tmp_path / HOLDER, HOLDER, room),
        host(nats_server, tmp_path / ASKED, ASKED, EMPTY) as client,
    ):
        plan: Any = (await client.post("/api/v1/vllm/plan", json=DEPLOY)).json()
        assert plan["fits"] is True, plan
        assert plan["plan"]["placement"][0]["node_id"] == where
        answer = await client.post("/api/v1/vllm/deploy", json=DEPLOY)
        assert answer.status_code == 202, answer.text
        ready = await until_status(client, "smol", "ready", "failed")
        assert ready["status"] == "ready", ready["last_error"]
        assert ready["node_id"] == where
        argv = psutil.Process(engine_pid(tmp_path / where, "smol")).cmdline()
        assert argv[argv.index("-m") + 1] == str(tmp_path / where / "models" / NAME / file.name)
        assert (await client.delete(f"{INSTANCES}/smol")).status_code == 200
