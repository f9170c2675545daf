"""A yielded card of a played machine: its owner plays, an engine outgrows its claim, the card vanishes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.gpu_orchestrator.played import MARGIN_MB, PlayedHost, engine, played_host, using
from tests.support.nvml.scenarios import unlike_pair, uuid

TOTAL = 24_564
DRIVER = 600
UNKNOWN = 999
YIELDS = "/api/v1/gpu/yields"


async def lent(host: PlayedHost) -> list[dict[str, Any]]:
    yields: list[dict[str, Any]] = (await host.client.get(YIELDS)).json()["yields"]
    return yields


async def test_the_owner_plays_while_an_engine_leaves(nvml_library: Path, tmp_path: Path) -> None:
    machine = unlike_pair()
    with engine() as ours, engine() as game:
        async with played_host(nvml_library, machine, tmp_path) as host:
            name = await host.reserved(8_000, 0)
            await host.bind(name, pid=ours.pid)
            host.played.change(using(machine, 0, {ours.pid: 7_000}))
            await host.until_gpu(0, foreign_mb=DRIVER, available_mb=TOTAL - 8_000 - DRIVER - MARGIN_MB)
            assert (await host.client.post(YIELDS, json={"gpu_indices": [0]})).status_code == 200

            host.played.change(using(machine, 0, {ours.pid: 9_500, game.pid: 6_000}))
            await host.until_gpu(0, used_mb=16_100, foreign_mb=DRIVER + 6_000, available_mb=0, cordoned=True)
            assert [
                (each["reservation_id"], each["used_mb"]) for each in (await lent(host))[0]["reservations"]
            ] == [(name, 9_500)]
            refused = await host.reserve(1, 0)
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:compute:error:yielded")
            assert (await host.reserve(1_000, 1)).status_code == 201, "the other card is as before"

            host.played.change(using(machine, 0, {game.pid: 20_000}))
            ours.kill()
            ours.wait()
            await host.until_gpu(0, reserved_mb=0, foreign_mb=DRIVER + 20_000, available_mb=0)
            assert (await lent(host))[0]["reservations"] == []

            await host.client.post(f"{YIELDS}/end")
            left = TOTAL - DRIVER - 20_000 - MARGIN_MB  # the game is still there, and counts
            await host.until_gpu(0, cordoned=False, available_mb=left)
            assert (await host.reserve(left + 1, 0)).status_code == 409
            assert (await host.reserve(left, 0)).status_code == 201


async def test_a_yielded_card_that_vanishes_is_still_lent_when_it_is_back(
    nvml_library: Path, tmp_path: Path
) -> None:
    """The driver numbers the card that is left anew: neither the yield nor the promise moves to it."""
    machine = unlike_pair()
    restarting = replace(machine, errors={"nvmlDeviceGetCount": UNKNOWN})
    async with played_host(nvml_library, machine, tmp_path) as host:
        name = await host.reserved(8_000, 0)
        await host.client.post(YIELDS, json={"gpu_indices": [0], "for_seconds": 3600})
        host.played.change(restarting)
        await host.until_gpu(0, health="lost", cordoned=True)
        host.played.change(replace(machine, gpus=machine.gpus[1:]))
        await host.until_gpu(0, uuid=uuid(1), cordoned=False, reserved_mb=0, health="ok")
        [flag] = (await host.states())["flagged"]
        assert (flag["reservation_id"], flag["health"]) == (name, f"GPU 0 ({uuid(0)}) is gone")
        other = await host.reserved(20_000, 0)

        host.played.change(restarting)
        await host.until_gpu(0, health="lost")
        host.played.change(machine)
        await host.until_gpu(0, uuid=uuid(0), cordoned=True, reserved_mb=8_000, available_mb=0)
        await host.until_gpu(1, uuid=uuid(1), cordoned=False, reserved_mb=20_000)
        assert (await host.states())["flagged"] == []
        assert (await host.reserve(1, 0)).json()["type"] == "urn:compute:error:yielded"
        assert (await host.reservation(other))["health"] == "ok"
