"""`compute logs` and `compute models pull` against orchestrators on real sockets, one of them far away."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from compute_cli.main import app
from tests.integration.vllm_orchestrator.attaching import attach
from tests.integration.vllm_orchestrator.hosts import orchestrator
from tests.support.hub import HubStandIn
from tests.support.live import listening
from tests.support.nats import NatsServer
from tests.support.scripted_engine import ScriptedEngine
from tests.support.waiting import until
from vllm_orchestrator.service import VllmOrchestrator

MODEL = {"config.json": b"{}", "model.safetensors": os.urandom(100_000)}


@asynccontextmanager
async def near_and_far(
    server: NatsServer, home: Path, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[VllmOrchestrator, str]]:
    """Commands ask `near`; yields the other host and its address."""
    near, far = (
        orchestrator(server, home / name, name, HF_ENDPOINT=hub.url, VLLM_MODEL_PATH=home / name / "models")
        for name in ("near", "far")
    )
    async with listening(near) as url, listening(far) as address:
        monkeypatch.setenv("VLLM_ORCHESTRATOR_URL", url)
        yield far, address


async def compute(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))


async def test_logs_from_anywhere(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        HubStandIn().running() as hub,
        ScriptedEngine().running() as engine,
        near_and_far(nats_server, tmp_path, hub, monkeypatch) as (far, address),
    ):
        await attach(address, engine.url, "tiny", "it")
        log = far.files.log("it")
        log.parent.mkdir(parents=True)
        log.write_text("first\nsecond\n")

        async def is_known() -> bool:
            return (await compute("logs", "it")).exit_code == 0

        await until(is_known)
        assert (await compute("logs", "it", "-n", "1")).output.strip() == "second"
        assert (await compute("logs", "it", "--node", "near")).output.strip() == ""
        assert json.loads((await compute("logs", "it", "--json")).output)["node_id"] == "far"
        unknown = await compute("logs", "nothing")
        assert unknown.exit_code == 1
        assert "there is no instance 'nothing'" in str(unknown.exception)

        following = asyncio.create_task(compute("logs", "it", "-f", "-n", "1"))
        await asyncio.sleep(1)  # not waited for: the lines come whether they are written before or after
        with log.open("a") as more:
            more.write("third\n")
        await asyncio.sleep(1)
        await far.desk.stop("it", remove=True)
        assert (await asyncio.wait_for(following, 20)).output.splitlines() == ["second", "third"]


async def test_a_model_is_pulled_onto_another_node(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        HubStandIn({"acme/tiny": MODEL, "acme/slow": MODEL}).running() as hub,
        near_and_far(nats_server, tmp_path, hub, monkeypatch),
    ):
        done = await compute("models", "pull", "acme/tiny", "--node", "far", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["phase"] == "done"
        assert (tmp_path / "far/models/acme/tiny/config.json").is_file()
        near = await compute("models", "pull", "acme/tiny")
        assert "acme/tiny on near: done (from node:far)" in near.stdout.replace("\n", " ")
        hub.block_seconds = 1.0
        begun = await compute("models", "pull", "acme/slow", "--node", "far", "--no-wait")
        assert "acme/slow on far: downloading" in begun.stdout.replace("\n", " ")
        ended = await compute("models", "pull", "acme/slow", "--node", "far", "--cancel")
        assert "acme/slow on far: cancelled" in ended.stdout.replace("\n", " ")
        over = await compute("models", "pull", "acme/slow", "--node", "far", "--cancel")
        assert (over.exit_code, "no pull of acme/slow is under way on far" in over.output) == (1, True)
        wrong = await compute("models", "pull", "acme/nothing")
        assert wrong.exit_code == 1
        assert "check the id" in str(wrong.exception)
