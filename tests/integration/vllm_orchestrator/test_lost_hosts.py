"""Two hosts and the real registry: a host that is lost loses its instances, unless they are tied to it."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from compute_common import wire_json
from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.hosts import (
    INSTANCES,
    NODE,
    SMOLLM,
    beating,
    engine_pid,
    gone,
    ledger,
    orchestrator,
    registry,
    until,
    until_status,
)
from tests.integration.vllm_orchestrator.program import Orchestrator
from tests.support.apps import serving
from tests.support.nats import NatsServer

pytestmark = [pytest.mark.engine, pytest.mark.timeout(110)]
OTHER = "host-two"
DEPLOY = {"model_name": SMOLLM, "max_model_len": 512, "max_num_seqs": 2}


async def test_a_lost_host_is_replaced_and_stops_its_orphan_when_it_returns(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    program = Orchestrator(nats_server, one)
    service = orchestrator(nats_server, two, OTHER, INSTANCE_TAKEOVER_SECONDS=2)
    async with (
        registry(nats_server),
        beating(bus, OTHER),
        ledger(nats_server, one),
        ledger(nats_server, two, OTHER) as gpu_two,
        serving(service) as client,
    ):
        try:
            async with beating(bus, NODE):
                await program.start()
                async with program.client() as there:
                    for name, tied in (("free", {}), ("tied", {"node_id": NODE})):
                        body = {**DEPLOY, "instance_name": name, **tied}
                        assert (await there.post("/api/v1/vllm/deploy", json=body)).status_code == 202
                        await until_status(there, name, "ready")
                first = {name: engine_pid(one, name) for name in ("free", "tied")}
                program.kill()  # a restart is no loss: the node still beats
                await asyncio.sleep(3)
                assert (await client.get(f"{INSTANCES}/free")).json()["status"] == "ready"
            # and now the host is silent; its engines go on, as on a host that is only cut off
            degraded = await until_status(client, "free", "degraded", seconds=20)
            assert degraded["node_id"] == NODE
            assert "offline" in degraded["last_error"]

            async def moved() -> Any:
                return (await client.get(f"{INSTANCES}/free")).json()

            there_now = await until(
                moved, lambda seen: seen["node_id"] == OTHER and seen["status"] == "ready", 40
            )
            assert there_now["epoch"] == degraded["epoch"] + 1
            tied_now = (await client.get(f"{INSTANCES}/tied")).json()
            assert (tied_now["node_id"], tied_now["status"]) == (NODE, "degraded")
            assert "waits for it" in tied_now["last_error"]

            async with beating(bus, NODE):
                await program.start()  # the host is back
                await gone(first["free"])
                async with program.client() as there:
                    seen = await until_status(there, "free", "ready")
                    assert (seen["node_id"], seen["epoch"]) == (OTHER, there_now["epoch"])
                    await until_status(there, "tied", "ready")
                    assert engine_pid(one, "tied") == first["tied"]  # adopted, not started again
                    assert psutil.pid_exists(engine_pid(two, "free"))
                    for name in ("free", "tied"):
                        assert (await there.delete(f"{INSTANCES}/{name}")).status_code == 200
                await gone(first["tied"])
            assert (await gpu_two.get("/api/v1/gpu/reservations")).json()["count"] == 0
        finally:
            program.kill()


async def test_an_idle_instance_of_a_lost_host_wakes_elsewhere(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """Asked through the gateway while the host is silent and not yet known to be lost."""
    one, two = tmp_path / "one", tmp_path / "two"
    idle = {**DEPLOY, "instance_name": "smol", "idle_timeout_seconds": 1}
    tied = {**DEPLOY, "instance_name": "tied", "auto_start": False, "node_id": NODE}
    async with (
        registry(nats_server),
        beating(bus, OTHER),
        ledger(nats_server, two, OTHER) as gpu_two,
        serving(orchestrator(nats_server, two, OTHER)) as client,
    ):
        async with (
            beating(bus, NODE),
            ledger(nats_server, one),
            serving(orchestrator(nats_server, one)) as there,
        ):
            for body in (idle, tied):
                assert (await there.post("/api/v1/vllm/deploy", json=body)).status_code == 202
            asleep = await until_status(client, "smol", "stopped")
            assert (asleep["node_id"], asleep["wakeable"]) == (NODE, True)
        body = {"model": "smol", "prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}
        answer = await client.post("/v1/completions", json=body, timeout=40)
        assert "Paris" in answer.text
        woken = (await client.get(f"{INSTANCES}/smol")).json()
        assert (woken["node_id"], woken["epoch"]) == (OTHER, asleep["epoch"] + 1)
        assert NODE in woken["last_error"]
        refused = await client.post(f"{INSTANCES}/tied/start")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:compute:error:no-responder")
        await client.delete(f"{INSTANCES}/smol")
        assert (await gpu_two.get("/api/v1/gpu/reservations")).json()["count"] == 0


async def test_one_that_was_cut_off_gives_its_instance_up(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """The record moved while the orchestrator lived on: its next write finds that out, by epoch and host."""
    home = tmp_path / "home"
    service = orchestrator(nats_server, home)
    async with ledger(nats_server, home) as gpu, serving(service) as client:
        await client.post("/api/v1/vllm/deploy", json={**DEPLOY, "instance_name": "smol"})
        await until_status(client, "smol", "ready")
        pid = engine_pid(home, "smol")
        bucket = await bus.jetstream().key_value("COMPUTE_INSTANCES")
        record = wire_json.parse_object((await bucket.get("smol")).value or b"")
        await bucket.put("smol", wire_json.dump({**record, "node_id": OTHER, "epoch": record["epoch"] + 1}))
        record_here = service.table.get("smol")
        assert record_here is not None
        await service.announcer.changed(record_here)
        await gone(pid)
        assert (await client.get(f"{INSTANCES}/smol")).json()["node_id"] == OTHER
        assert (await gpu.get("/api/v1/gpu/reservations")).json()["count"] == 0
        kept = wire_json.parse_object((await bucket.get("smol")).value or b"")
        assert kept["node_id"] == OTHER


async def test_one_that_was_only_silent_writes_its_own_word_again(
    nats_server: NatsServer, tmp_path: Path, bus: Bus
) -> None:
    """Said to be degraded while its host was cut off, though it went on: back again, the record is true."""
    home = tmp_path / "home"
    service = orchestrator(nats_server, home)
    async with ledger(nats_server, home), serving(service) as client:
        await client.post("/api/v1/vllm/deploy", json={**DEPLOY, "instance_name": "smol"})
        await until_status(client, "smol", "ready")
        bucket = await bus.jetstream().key_value("COMPUTE_INSTANCES")
        record = wire_json.parse_object((await bucket.get("smol")).value or b"")
        await bucket.put("smol", wire_json.dump({**record, "status": "degraded"}))
        await service.table.refresh()
        kept = wire_json.parse_object((await bucket.get("smol")).value or b"")
        assert (kept["status"], kept["epoch"]) == ("ready", record["epoch"])
        assert (await client.delete(f"{INSTANCES}/smol")).status_code == 200


async def test_a_request_heard_by_two_orchestrators_deploys_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    body = {**DEPLOY, "instance_name": "smol"}
    async with (
        ledger(nats_server, one) as gpu_one,
        ledger(nats_server, two, OTHER) as gpu_two,
        serving(orchestrator(nats_server, one)) as here,
        serving(orchestrator(nats_server, two, OTHER)) as there,
    ):
        answers = await asyncio.gather(*(c.post("/api/v1/vllm/deploy", json=body) for c in (here, there) * 3))
        assert sorted({answer.status_code for answer in answers}) == [200, 202]
        assert [answer.status_code for answer in answers].count(202) == 1
        await until_status(here, "smol", "ready")
        counts = [(await gpu.get("/api/v1/gpu/reservations")).json()["count"] for gpu in (gpu_one, gpu_two)]
        assert sum(counts) == 1
        other = await there.post("/api/v1/vllm/deploy", json={**body, "max_model_len": 256})
        assert other.status_code == 409
        assert "max_model_len" in other.json()["detail"]
        await here.delete(f"{INSTANCES}/smol")
