"""Bodies and messages that harm: each is refused, and the next good one is served."""

import json

import pytest

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from tests.integration.node_registry.one_registry import DEAF, registry, status_of
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until

HOSTILE = [
    b"",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"node_id": "n1", "hostname": ',
    b'{"node_id": "../../x", "hostname": "h"}',
    b'{"node_id": "a;rm -rf", "hostname": "h"}',
    b'{"node_id": "events", "hostname": "h"}',
    b'{"node_id": "' + b"x" * 10_000 + b'", "hostname": "h"}',
    b'{"node_id": "n1", "hostname": "h", "gpus": "many"}',
    b'{"node_id": "n1", "hostname": "h", "cpu": {"cores": -1}}',
    b'{"node_id": "n1", "hostname": "h", "memory": {"total_gb": 1e999}}',
    b'{"node_id": "n1", "hostname": "h", "deep": {"x": 1e999}}',
    b'{"node_id": "n1", "hostname": "h", "heartbeat_seconds": 0}',
    b'{"node_id": "n1", "hostname": "h", "gpu_count": 1e9}',
    b'{"node_id": "n1", "hostname": "h", "note": "' + b"x" * 300_000 + b'"}',
    b"[" * 5000,
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:40]))
async def test_hostile_bodies_are_refused(data: bytes) -> None:
    async with serving(registry(DEAF)) as client:
        for path in ("/api/v1/nodes/register", "/api/v1/nodes/heartbeat", "/api/v1/nodes/query"):
            answer = await client.post(path, content=data, headers={"Content-Type": "application/json"})
            assert answer.status_code < 500, path
            if path.endswith("register") and b"deep" not in data:
                assert answer.status_code >= 400
                assert answer.headers["content-type"] == "application/problem+json"
        listed = await client.get("/api/v1/nodes")
        assert listed.status_code == 200
        json.loads(listed.content)
        for node_id in ("..%2Fx", "a;b", "query", "x" * 200):
            assert (await client.get(f"/api/v1/nodes/{node_id}")).status_code in (404, 422)


async def test_hostile_messages_kill_no_subscription(nats_server: NatsServer, bus: Bus) -> None:
    async with serving(registry(nats_server.url)) as client:
        listened = (
            subjects.NODES_ANNOUNCE, subjects.NODES_HEARTBEAT, subjects.NODES_DRAIN, subjects.NODES_REMOVE,
            subjects.NODES_QUERY, subjects.VLLM_INSTANCE, subjects.BENCHMARK_RESULT, subjects.WORK_COMPLETED,
            subjects.WORK_FAILED, subjects.WORK_PROGRESS, "compute.node.x.announce",
            "compute.node.a=2E.heartbeat", "compute.node.$$.completed", "compute.work.test.v1",
        )  # fmt: skip
        for subject in listened:
            for data in HOSTILE:
                await bus.client.publish(subject, data)
        await bus.publish(subjects.NODES_ANNOUNCE, {"node_id": "good", "hostname": "h"})

        async def is_known() -> bool:
            return await status_of(client, "good") == "online"

        await until(is_known)
        await bus.publish(subjects.NODES_DRAIN, {"node_id": "good", "drain": True})

        async def is_draining() -> bool:
            return await status_of(client, "good") == "draining"

        await until(is_draining)
        with pytest.raises(Problem) as refused:
            await bus.request(subjects.NODES_QUERY, {"min_tier": "LARGE", "query_id": "q"})
        assert refused.value.status == 422
        assert (await bus.request(subjects.NODES_QUERY, {"include_draining": True}))["count"] >= 1
