"""An assignment that was told and never came into the log is told again."""

import asyncio
from typing import Any

import pytest

from compute_common.bus import Bus
from tests.integration.work_marshaling.cluster import Registry, ended, marshaling, plain_worker, submit
from tests.support.nats import NatsServer
from work_marshaling.deliveries import Deliveries


async def test_one_that_is_lost_is_told_again(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_arguments: Any) -> bool:
        return True

    async def work(_item: dict[str, Any]) -> str:
        return "done"

    registry = Registry(bus)
    await registry.start()
    await registry.put("box", slots=2)
    seen: list[dict[str, Any]] = []
    await plain_worker(bus, work, seen)
    monkeypatch.setattr(Deliveries, "_send_one", lost)
    async with marshaling(nats_server.url) as (_, client):
        ids = [await submit(client) for _ in range(5)]
        items = await asyncio.gather(*(ended(client, work_id) for work_id in ids))
    assert [(item["status"], item["attempt"]) for item in items] == [("completed", 1)] * 5
    assert sorted(item["work_id"] for item in seen) == sorted(ids)
