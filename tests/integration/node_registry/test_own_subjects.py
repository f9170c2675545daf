"""That a node has subjects of its own shows in where it speaks, and nobody else can say it or unsay it."""

import httpx

from compute_common import subjects
from compute_common.bus import Bus
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support import waiting
from tests.support.apps import serving
from tests.support.nats import NatsServer


async def test_a_node_that_speaks_on_its_own_subjects_is_addressed_there(
    nats_server: NatsServer, bus: Bus
) -> None:
    service = NodeRegistry(Settings.model_validate({"NATS_URL": nats_server.url}))
    async with serving(service) as client:
        claim = {"hostname": "h", "own_subjects": True}
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": "shared", **claim})
        await client.post("/api/v1/nodes/register", json={"node_id": "rest", **claim})
        await bus.publish("compute.node.box=2E1.announce", {"node_id": "box.1", "hostname": "h"})
        await bus.flush()

        async def known() -> bool:
            return all([await own(client, name) != "unknown" for name in ("shared", "rest", "box.1")])

        await waiting.until(known)
        assert [await own(client, name) for name in ("shared", "rest", "box.1")] == [None, None, True]
        denial = {"node_id": "box.1", "hostname": "h", "own_subjects": False, "labels": {"seen": "yes"}}
        await bus.publish(subjects.NODES_ANNOUNCE, denial)

        async def merged() -> bool:
            return bool((await client.get("/api/v1/nodes/box.1")).json()["labels"])

        await waiting.until(merged)
        assert await own(client, "box.1") is True


async def own(client: httpx.AsyncClient, node_id: str) -> object:
    answer = await client.get(f"/api/v1/nodes/{node_id}")
    return answer.json().get("own_subjects") if answer.status_code == 200 else "unknown"
