"""The registry goes, or its NATS server does: what was said stays known."""

import asyncio
import time

from compute_common import subjects
from compute_common.bus import Bus
from tests.integration.node_registry.one_registry import SPEC_NODE, registry, status_of
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until


async def test_a_drain_survives_restart_and_the_node_is_still_known(nats_server: NatsServer) -> None:
    async with serving(registry(nats_server.url)) as client:
        await client.post("/api/v1/nodes/register", json=SPEC_NODE)
        drained = await client.post("/api/v1/nodes/my-submodule-node/drain")
        assert drained.json() == {"status": "draining", "node_id": "my-submodule-node"}
        assert (await client.post("/nodes/my-submodule-node/drain")).status_code == 200
        assert (await client.post("/api/v1/nodes/nobody/drain")).status_code == 404
    async with serving(registry(nats_server.url)) as client:
        assert (await client.get("/readyz")).status_code == 200
        node = (await client.get("/api/v1/nodes/my-submodule-node")).json()
        assert (node["status"], node["tier"], node["cpu_cores"]) == ("draining", "GPU_PEER", 16)
        await client.post("/api/v1/nodes/heartbeat", json={"node_id": "my-submodule-node"})
        assert await status_of(client, "my-submodule-node") == "draining"
        lifted = await client.post("/api/v1/nodes/my-submodule-node/undrain")
        assert lifted.json()["status"] == "online"
        assert (await client.delete("/api/v1/nodes/my-submodule-node")).status_code == 204
        assert (await client.delete("/api/v1/nodes/my-submodule-node")).status_code == 404
    async with serving(registry(nats_server.url)) as client:
        assert (await client.get("/api/v1/nodes")).json()["count"] == 0


async def test_without_nats_it_works_locally_and_heals(nats_server: NatsServer) -> None:
    nats_server.stop()
    service = registry(nats_server.url)
    async with serving(service) as client:
        health = (await client.get("/healthz")).json()
        assert (health["status"], health["checks"]["nats"]["ok"]) == ("degraded", False)
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post("/register", json=SPEC_NODE)).status_code == 200
        beat = {"node_id": "my-submodule-node"}
        assert (await client.post("/heartbeat", json=beat)).json()["known"] is True
        assert (await client.post("/api/v1/nodes/my-submodule-node/drain")).status_code == 200
        assert (await client.get("/api/v1/overview")).json()["queue"] is None
        nats_server.start()

        async def is_healthy() -> bool:
            return bool((await client.get("/healthz")).json()["status"] == "healthy")

        await until(is_healthy)
    async with serving(registry(nats_server.url)) as client:
        assert await status_of(client, "my-submodule-node") == "draining"


async def test_nats_killed_and_back_loses_nothing(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        node = {"node_id": "n1", "hostname": "h", "heartbeat_seconds": 0.25}
        await bus.publish(subjects.NODES_ANNOUNCE, node)

        async def is_online() -> bool:
            return await status_of(client, "n1") == "online"

        await until(is_online)
        nats_server.stop(kill=True)

        async def is_degraded() -> bool:
            return bool((await client.get("/healthz")).json()["status"] == "degraded")

        await until(is_degraded)
        deadline = time.monotonic() + 2.5  # longer than the node's own deadline of 2 s
        while time.monotonic() < deadline:
            assert await is_online(), "an outage of NATS blames no node"
            await asyncio.sleep(0.1)
        nats_server.start()

        async def is_offline() -> bool:
            return await status_of(client, "n1") == "offline"

        await until(is_offline)
