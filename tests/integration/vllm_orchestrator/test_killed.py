"""kill -9 of the orchestrator's process at each step of a deployment and of its end: nothing leaks, nothing
starts twice. Every message on the wire is a boundary between two steps, so that is where it is killed.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from nats.aio.msg import Msg

from compute_common import wire_json
from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, NODE, SMOLLM, ledger, until
from tests.integration.vllm_orchestrator.program import Orchestrator
from tests.support.nats import NatsServer
from vllm_orchestrator.engines.marks import marked_engines

pytestmark = [pytest.mark.engine, pytest.mark.timeout(110)]
DEPLOY = {"model_name": SMOLLM, "instance_name": "smol", "max_model_len": 512, "max_num_seqs": 2}
RECORD = "$KV.COMPUTE_INSTANCES.smol"

STEPS = [  # (killed at which message of the deployment, at which of the end)
    ((RECORD, 1), (RECORD, 1)),  # claimed; `stopping` is written
    (("compute.gpu.reserve", 1), ("compute.gpu.release", 1)),  # asked, answer not heard
    ((RECORD, 2), (RECORD, 2)),  # reserved; `stopped` is written
    ((RECORD, 3), (RECORD, 3)),  # about to spawn; removed
    (("compute.gpu.bind", 1), ("compute.vllm.instance", 2)),  # spawned, file written
    ((RECORD, 5), ("compute.vllm.instance", 1)),  # it loads or is probed
]
# not ">": who hears a subject is taken for one who answers, and is waited for
WATCHED = ("$KV.COMPUTE_INSTANCES.>", "compute.gpu.>", "compute.vllm.instance.>")
RANDOM_ROUNDS = 2


class Wire:
    """Sees every message, and kills at the one that it is set to."""

    def __init__(self, program: Orchestrator) -> None:
        self._program = program
        self._left = 0
        self._prefix = ""
        self.killed = asyncio.Event()

    def kill_at(self, prefix: str, count: int) -> None:
        self.killed.clear()
        self._prefix, self._left = prefix, count

    async def see(self, msg: Msg) -> None:
        if self._left and msg.subject.startswith(self._prefix):
            self._left -= 1
            if self._left == 0:
                self._program.kill()
                self.killed.set()


@asynccontextmanager
async def stage(
    server: NatsServer, home: Path, bus: Bus
) -> AsyncIterator[tuple[Orchestrator, Wire, httpx.AsyncClient]]:
    """(the program, what watches its wire, the real ledger beside it)."""
    program = Orchestrator(server, home)
    wire = Wire(program)
    for subject in WATCHED:
        await bus.subscribe_raw(subject, wire.see)
    await bus.flush()
    async with ledger(server, home) as gpu:
        await program.start()
        try:
            yield program, wire, gpu
        finally:
            program.kill()
            for engine in marked_engines(owner(home)):
                os.killpg(engine.process.pid, signal.SIGKILL)


def owner(home: Path) -> str:
    return f"{NODE} {home}"


async def ask(program: Orchestrator, method: str, path: str, **more: Any) -> httpx.Response | None:
    """The answer; None when the program died over it."""
    async with program.client() as client:
        with suppress(httpx.HTTPError):
            return await client.request(method, path, **more)
    return None


async def one_engine(program: Orchestrator, gpu: httpx.AsyncClient, home: Path) -> None:
    """Ready, with one process group, one reservation, one file, and no other llama-server of that name."""

    async def status() -> object:
        answer = await ask(program, "GET", f"{INSTANCES}/smol")
        return answer.json().get("status") if answer is not None else None

    await until(status, lambda seen: seen in ("ready", "failed"), 30)
    assert await status() == "ready"
    engines = marked_engines(owner(home))
    assert [(engine.instance_name, engine.leads) for engine in engines] == [("smol", True)]
    held = (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
    assert [item["state"] for item in held] == ["bound"]
    assert [path.name for path in (home / "engines").glob("*.json")] == ["smol.json"]


async def nothing(program: Orchestrator, gpu: httpx.AsyncClient, home: Path) -> None:
    """No record, process, reservation or file, and every port can be listened on."""

    async def left() -> list[object]:
        answer = await ask(program, "GET", INSTANCES)
        found: list[object] = answer.json()["instances"] if answer is not None else ["no answer"]
        found += marked_engines(owner(home))
        found += (await gpu.get("/api/v1/gpu/reservations")).json()["reservations"]
        return found + list((home / "engines").glob("*.json"))

    await until(left, lambda found: not found, 15)
    first, _, last = program.environment["ENGINE_PORTS"].partition("-")
    ours = range(int(first), int(last) + 1)
    listening = {
        c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr
    }
    assert not listening & set(ours)


async def test_killed_at_each_step(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    home = tmp_path / "home"
    async with stage(nats_server, home, bus) as (program, wire, gpu):
        for deploying, ending in STEPS:
            wire.kill_at(*deploying)
            await ask(program, "POST", "/api/v1/vllm/deploy", json=DEPLOY)
            async with asyncio.timeout(20):
                await wire.killed.wait()
            await program.start()
            await one_engine(program, gpu, home)  # it was claimed: it comes up, though its client was cut off
            wire.kill_at(*ending)
            await ask(program, "DELETE", f"{INSTANCES}/smol")
            async with asyncio.timeout(20):
                await wire.killed.wait()
            await program.start()
            await nothing(program, gpu, home)


async def test_killed_at_any_moment(nats_server: NatsServer, tmp_path: Path, bus: Bus) -> None:
    """Whatever the moment, a repeated deployment is one engine and a repeated DELETE leaves nothing."""
    home = tmp_path / "home"
    moments = random.Random(5)  # noqa: S311  (moments, not secrets)
    async with stage(nats_server, home, bus) as (program, _wire, gpu):
        for _round in range(RANDOM_ROUNDS):
            for method, path, longest in (
                ("POST", "/api/v1/vllm/deploy", 1.5),
                ("DELETE", f"{INSTANCES}/smol", 0.4),
            ):
                asked = asyncio.create_task(ask(program, method, path, json=DEPLOY))
                await asyncio.sleep(moments.uniform(0, longest))
                program.kill()
                await asked
                await program.start()
                again = await ask(program, method, path, json=DEPLOY)
                assert again is not None
                assert again.status_code in (200, 202, 404)
                if method == "POST":
                    await one_engine(program, gpu, home)
            await nothing(program, gpu, home)


async def test_an_engine_nobody_noted_is_adopted_by_its_mark(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """As after a kill between spawn and note: neither file nor record know the process."""
    home = tmp_path / "home"
    async with stage(nats_server, home, bus) as (program, _wire, gpu):
        await ask(program, "POST", "/api/v1/vllm/deploy", json=DEPLOY)
        await one_engine(program, gpu, home)
        [engine] = marked_engines(owner(home))
        program.kill()
        (home / "engines" / "smol.json").unlink()
        bucket = await bus.jetstream().key_value("COMPUTE_INSTANCES")
        record = wire_json.parse_object((await bucket.get("smol")).value or b"")
        unknowing = {**record, "pid": None, "start_time": None, "status": "starting"}
        await bucket.put("smol", wire_json.dump(unknowing))
        await program.start()
        await one_engine(program, gpu, home)
        assert marked_engines(owner(home)) == [engine]

        program.kill()
        (home / "engines" / "smol.json").unlink()
        await bucket.delete("smol")
        await program.start()
        await nothing(program, gpu, home)
