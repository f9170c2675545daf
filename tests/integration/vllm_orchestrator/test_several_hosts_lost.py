"""One instance over two hosts: what of it is lost is replaced, renewed or ended."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common.bus import Bus
from tests.integration.vllm_orchestrator.hosts import INSTANCES, gone, registry, until, until_status
from tests.integration.vllm_orchestrator.two_hosts import HEAD, MODEL, TAIL, Pair, one_host
from tests.support.nats import NatsServer
from vllm_orchestrator.instances import ledger as ledgers_of_hosts
from vllm_orchestrator.instances import parts, promise
from vllm_orchestrator.instances.ledger import LedgerClient


async def test_a_host_gone_for_good_is_replaced(
    nats_server: NatsServer, tmp_path: Path, bus: Bus, vllm_of_several: None
) -> None:
    """Whichever of the two: first the one with a part, then the head itself."""
    spare = "host-c"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(registry(nats_server))
        hosts: dict[str, AsyncExitStack] = {}
        clients: dict[str, httpx.AsyncClient] = {}
        gpus: dict[str, httpx.AsyncClient] = {}
        for node_id in (HEAD, TAIL, spare):
            hosts[node_id] = await stack.enter_async_context(AsyncExitStack())
            entered = one_host(nats_server, tmp_path / node_id, bus, node_id)
            _service, clients[node_id], gpus[node_id] = await hosts[node_id].enter_async_context(entered)
        await clients[HEAD].post("/api/v1/vllm/deploy", json=MODEL)
        first = await until_status(clients[HEAD], "qwen", "ready")
        part = next(place["node_id"] for place in first["placement"] if place["node_id"] != first["node_id"])
        await hosts[part].aclose()
        second = await moved(clients[first["node_id"]], first["epoch"], part)

        back = one_host(nats_server, tmp_path / part, bus, part)
        _service, clients[part], gpus[part] = await hosts[part].enter_async_context(back)
        await hosts[second["node_id"]].aclose()
        third = await moved(clients[part], second["epoch"], second["node_id"])
        await clients[part].delete(f"{INSTANCES}/qwen")
        for place in third["placement"]:
            answer = await gpus[place["node_id"]].get("/api/v1/gpu/reservations")
            assert answer.json()["count"] == 0


async def moved(client: httpx.AsyncClient, epoch: int, lost: str) -> Any:
    """The instance once it lives anew, without the lost host."""

    async def look() -> Any:
        return (await client.get(f"{INSTANCES}/qwen")).json()

    seen = await until(look, lambda seen: seen["epoch"] > epoch and seen["status"] == "ready", 40)
    assert lost not in {place["node_id"] for place in seen["placement"]}
    return seen


async def test_a_part_whose_instance_went_is_ended(pair: Pair) -> None:
    """Its head's host lost the record; the part's host finds out by itself."""
    await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    ready = await until_status(pair.head, "qwen", "ready")
    head, tail = ready["node_id"], next(each for each in (HEAD, TAIL) if each != ready["node_id"])
    pid = pair.pid(tail)
    record = pair.services[head].table.get("qwen")
    assert record is not None
    ranks, record.ranks = record.ranks, []  # the head forgets to tell
    await pair.head.delete(f"{INSTANCES}/qwen")
    assert ranks
    await gone(pid)
    await until(pair.reserved, lambda counts: counts == [0, 0], 15)


async def test_memory_that_cannot_be_bound_is_renewed_on_every_host(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledgers see other pids than the orchestrators do."""
    bind = LedgerClient.bind

    async def other_pids(self: LedgerClient, node_id: str, reservation_id: str, holder: Any) -> None:
        await bind(self, node_id, reservation_id, {**holder, "pid": (1 << 22) - 1})

    monkeypatch.setattr(LedgerClient, "bind", other_pids)
    for module in (ledgers_of_hosts, promise):
        monkeypatch.setattr(module, "LEASE_SECONDS", 4)
    for module in (parts, promise):
        monkeypatch.setattr(module, "RENEW_SECONDS", 0.5)
    await pair.head.post("/api/v1/vllm/deploy", json=MODEL)
    await until_status(pair.head, "qwen", "ready")

    async def ends() -> list[str]:
        answers = [await gpu.get("/api/v1/gpu/reservations") for gpu in pair.gpus.values()]
        return [each["expires_at"] for answer in answers for each in answer.json()["reservations"]]

    first = await ends()
    assert len(first) == 2
    later = await until(ends, lambda now: len(now) != 2 or min(now) > max(first), 10)
    assert len(later) == 2, "renewed, not expired"
    await pair.head.delete(f"{INSTANCES}/qwen")
    assert await pair.reserved() == [0, 0]
