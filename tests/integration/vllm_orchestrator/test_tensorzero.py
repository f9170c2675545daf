"""What is written for TensorZero is judged by its own embedded gateway, which then serves the real engine."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.vllm_orchestrator.attaching import attach
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    SMOLLM,
    ledger,
    orchestrator,
    until,
    until_status,
)
from tests.support.apps import serving
from tests.support.live import listening
from tests.support.nats import NatsServer
from tests.support.scripted_engine import ScriptedEngine

tensorzero = pytest.importorskip("tensorzero", reason="no tensorzero wheel for this platform")
GATEWAY = "[gateway]\nobservability.enabled = false\ndisable_pseudonymous_usage_analytics = true\n"


def with_gateway(folder: Path) -> Path:
    """The folder with the section that a person writes."""
    folder.mkdir(exist_ok=True)
    (folder / "gateway.toml").write_text(GATEWAY)
    return folder


async def ask(folder: Path, model: str) -> str:
    """One inference through a gateway built from the folder, as its supervisor would start it."""
    async with await tensorzero.AsyncTensorZeroGateway.build_embedded(
        config_file=f"{folder}/*.toml"
    ) as gateway:
        question = {"messages": [{"role": "user", "content": "Say hello."}]}
        params = {"chat_completion": {"max_tokens": 4}}
        answer = await gateway.inference(model_name=model, input=question, params=params)
    return str(answer.content[0].text)


def ours(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("compute-*.toml")}


async def written(folder: Path, count: int) -> set[str]:
    """The names of our files once there are `count`."""

    async def look() -> set[str]:
        return ours(folder)

    return await until(look, lambda seen: len(seen) == count, 15)


@pytest.mark.engine
async def test_the_real_engine_through_the_real_gateway(nats_server: NatsServer, tmp_path: Path) -> None:
    folder = with_gateway(tmp_path / "tensorzero")
    reloads = tmp_path / "reloads"
    count = f"{sys.executable} -c \"open('{reloads}', 'a').write('x')\""
    service = orchestrator(
        nats_server,
        tmp_path,
        TENSORZERO_CONFIG_DIR=folder,
        TENSORZERO_RELOAD_COMMAND=count,
        TENSORZERO_URL="http://gateway:3000",
    )
    async with ledger(nats_server, tmp_path), serving(service) as client:
        await written(folder, 1)
        deploy = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}
        answer = (await client.post("/api/v1/vllm/deploy", json=deploy)).json()
        assert answer["tensorzero_url"] == "http://gateway:3000"
        await until_status(client, "smol", "ready")
        names = await written(folder, 2)
        assert names == {"compute-0.toml", *(name for name in names if "SmolLM2" in name)}
        assert await ask(folder, SMOLLM)
        before = reloads.read_text()
        await client.delete(f"{INSTANCES}/smol")
        assert await written(folder, 1) == {"compute-0.toml"}
        with pytest.raises(tensorzero.TensorZeroError, match=r"400|404|not found"):
            await ask(folder, SMOLLM)

        async def reloaded() -> Any:
            return len(reloads.read_text())

        await until(reloaded, lambda seen: seen > len(before), 10)


async def test_instances_of_one_model_share_a_file_and_stand_in_for_each_other(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    folder = with_gateway(tmp_path / "tensorzero")
    (folder / "yours.toml").write_text("# yours\n")
    (folder / "compute-gone.toml").write_text("of an instance that is no more, and not even TOML")
    service = orchestrator(nats_server, tmp_path, TENSORZERO_CONFIG_DIR=folder)
    async with listening(service) as base, ScriptedEngine().running() as well:
        async with ScriptedEngine().running() as gone:
            await attach(base, gone.url, "tiny", "a-gone")
            await attach(base, well.url, "tiny", "b.well")
            await attach(base, well.url, "we/ird $\"name'", "c")

            async def both() -> str:
                files = [path.read_text() for path in folder.glob("compute-tiny-*.toml")]
                return files[0] if files else ""

            assert 'routing = ["a-gone", "b.well"]' in await until(both, lambda text: "b.well" in text, 10)
        assert await ask(folder, "tiny") == "t0 t1 t2 "
        assert len(gone.bodies) == 0
        assert await ask(folder, "we/ird $\"name'") == "t0 t1 t2 "
    assert (folder / "yours.toml").read_text() == "# yours\n"
    assert not (folder / "compute-gone.toml").exists()


async def test_its_absence_fails_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder can be here")
    service = orchestrator(
        nats_server,
        tmp_path,
        TENSORZERO_CONFIG_DIR=tmp_path / "file" / "folder",
        TENSORZERO_RELOAD_COMMAND="/nowhere/reload --now",
    )
    async with listening(service) as base, ScriptedEngine().running() as engine:
        await asyncio.sleep(1.2)  # it has looked at least once
        await attach(base, engine.url, "tiny", "it")
        assert service.table.get("it") is not None
