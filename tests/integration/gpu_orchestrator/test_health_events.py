"""Watchers are told when a GPU fails, is lost or is well again, and which reservations that concerns."""

import asyncio
from pathlib import Path
from typing import Any

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.gpu_orchestrator.played import PlayedHost, changed, played_host, told
from tests.support.nats import NatsServer
from tests.support.nvml import scenarios
from tests.support.nvml.scenarios import h100_x8, uuid
from tests.support.waiting import until

Queue = asyncio.Queue[dict[str, Any]]
NODE = "box.1"


async def heard(bus: Bus) -> Queue:
    """The health changes that a watcher is told of."""
    events: Queue = asyncio.Queue()

    async def keep(event: dict[str, Any]) -> None:
        if event["event"] == "health-changed":
            await events.put(event)

    await bus.subscribe(subjects.GPU_STATE, keep)
    await bus.flush()
    return events


async def next_change(events: Queue) -> tuple[int, str, str, dict[str, str]]:
    """GPU, health before and now, and the health of each reservation there."""
    event = await asyncio.wait_for(events.get(), 15)
    assert (event["node_id"], event["reservation"]) == (NODE, None)
    gpu = event["gpu"]
    assert gpu["uuid"] == uuid(gpu["index"])
    flags = {each["reservation_id"]: each["health"] for each in gpu["reservations"]}
    return gpu["index"], gpu["previous_health"], gpu["health"], flags


async def flagged(host: PlayedHost) -> dict[str, str]:
    return {each["reservation_id"]: each["health"] for each in (await host.states())["flagged"]}


def told_by(server: NatsServer) -> dict[str, str]:
    return {"NATS_URL": server.url, "NODE_ID": NODE, "NATS_WAIT_SECONDS": "5"}


async def test_lost_failing_and_well_again(
    nvml_library: Path, tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    events = await heard(bus)
    machine = h100_x8()
    async with played_host(nvml_library, machine, tmp_path, told_by(nats_server)) as host:
        both, other = await host.reserved(10_000, 1, 2), await host.reserved(1_000, 5)
        assert await flagged(host) == {}
        host.played.change(scenarios.lost(1))
        assert await next_change(events) == (1, "ok", "lost", {both: "GPU 1 is lost"})
        assert await flagged(host) == {both: "GPU 1 is lost"}

        broken = changed(scenarios.lost(1), 2, values=told(machine.gpus[2], ecc_uncorrected=3).values)
        host.played.change(broken)
        failing = "failing: 3 uncorrected memory errors since its last reset"
        words = f"GPU 1 is lost; GPU 2 is {failing}"
        assert await next_change(events) == (2, "ok", failing, {both: words})
        host.played.change(scenarios.lost(1))
        assert await next_change(events) == (2, failing, "ok", {both: "GPU 1 is lost"})
        host.played.change(machine)
        assert await next_change(events) == (1, "lost", "ok", {both: "ok"})
        assert await flagged(host) == {}

        host.played.change(changed(machine, 5, xids=(79,)))
        failing = "failing: Xid 79"
        assert await next_change(events) == (5, "ok", failing, {other: f"GPU 5 is {failing}"})
        assert (await host.reserve(1, 5)).status_code == 409
        assert events.empty(), "each change is told once"


async def test_what_happened_while_nats_was_away_is_told_when_it_is_back(
    nvml_library: Path, tmp_path: Path, nats_server: NatsServer, bus: Bus
) -> None:
    events = await heard(bus)
    machine = h100_x8()
    async with played_host(nvml_library, machine, tmp_path, told_by(nats_server)) as host:
        name = await host.reserved(10_000, 1)
        nats_server.stop()
        await until(lambda: not bus.connected)
        host.played.change(changed(machine, 1, lost=True))
        await host.until_gpu(1, health="lost")
        nats_server.start()
        assert await next_change(events) == (1, "ok", "lost", {name: "GPU 1 is lost"})
