"""What the queue needs around it: a registry with a table of the test's own, plain workers, polling."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.bus_auth import NatsSettings
from compute_common.times import rfc3339, utc_now
from tests.support.apps import serving
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings


def nats_settings(url: str) -> NatsSettings:
    return NatsSettings(NATS_URL=url)


def settings(url: str, **values: Any) -> Settings:
    return Settings(NATS_URL=url, NODE_ID="test-host", **values)


def node_record(node_id: str, **values: Any) -> dict[str, Any]:
    now = rfc3339(utc_now())
    return {
        "node_id": node_id,
        "hostname": node_id,
        "tier": "CPU_ONLY",
        "status": "online",
        "is_online": True,
        "is_draining": False,
        "registered_at": now,
        "cpu": {},
        "memory": {},
        "gpus": [],
        "heartbeat_seconds": 5,
        "gpu_count": 0,
        "gpu_vram_mb": 0,
        "gpu_vram_gb": 0,
        "gpu_models": [],
        "utilization_score": 0,
        **values,
    }


class Registry:
    """The registry's part on the wire: the query subject and node events, from a table the test edits."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.nodes: dict[str, dict[str, Any]] = {}

    async def start(self) -> None:
        await self._bus.serve(subjects.NODES_QUERY, self._query)

    async def _query(self, _message: Message) -> Message:
        nodes = list(self.nodes.values())
        return {"nodes": nodes, "count": len(nodes), "timestamp": rfc3339(utc_now())}

    async def put(self, node_id: str, **values: Any) -> None:
        known = node_id in self.nodes
        self.nodes[node_id] = {**self.nodes.get(node_id, node_record(node_id)), **values}
        await self._tell("updated" if known else "joined", node_id)

    async def offline(self, node_id: str) -> None:
        self.nodes[node_id] |= {"status": "offline", "is_online": False}
        await self._tell("offline", node_id)

    async def _tell(self, event: str, node_id: str) -> None:
        message = {
            "event": event,
            "node_id": node_id,
            "node": self.nodes[node_id],
            "timestamp": rfc3339(utc_now()),
        }
        await self._bus.publish(subjects.NODES_EVENT, message)


@asynccontextmanager
async def marshaling(url: str, **values: Any) -> AsyncIterator[tuple[WorkMarshaling, httpx.AsyncClient]]:
    """The service in this process, ready and leading."""
    async with standing_by(url, **values) as (service, client):
        await until(lambda: service.dispatcher.leading)
        yield service, client


@asynccontextmanager
async def standing_by(url: str, **values: Any) -> AsyncIterator[tuple[WorkMarshaling, httpx.AsyncClient]]:
    """The service in this process, ready; who leads is another matter."""
    service = WorkMarshaling(settings(url, **values))
    async with serving(service) as client:
        await until(service.is_ready)
        yield service, client


async def until(holds: Callable[[], Any], seconds: float = 10) -> Any:
    """Poll until `holds()` is true; AssertionError when it does not become so."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
    return value


async def ended(client: httpx.AsyncClient, work_id: str, seconds: float = 15) -> dict[str, Any]:
    """The item once it is final."""
    answer = await client.get(f"/api/v1/work/{work_id}", params={"wait": seconds})
    item: dict[str, Any] = answer.json()
    assert item["status"] in ("completed", "failed", "cancelled"), item
    return item


async def submit(client: httpx.AsyncClient, **body: Any) -> str:
    answer = await client.post("/api/v1/work/submit", json={"work_type": "test", **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["work_id"])


async def plain_worker(
    bus: Bus, work: Callable[[dict[str, Any]], Awaitable[Any]], seen: list[dict[str, Any]] | None = None
) -> None:
    """The specification's worker: core subscribe, core publish, no node id."""

    async def on_work(message: Any) -> None:
        item = json.loads(message.data)
        if seen is not None:
            seen.append(item)
        result = await work(item)
        await bus.client.publish(
            "compute.work.completed.v1", json.dumps({"work_id": item["work_id"], "result": result}).encode()
        )

    await bus.subscribe_raw(subjects.WORK_ASSIGNED, on_work)
    await bus.flush()
