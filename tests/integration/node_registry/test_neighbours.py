"""A cluster amid an upgrade: hosts and a registry one minor apart work together, and it is shown."""

from typing import Any

from compute_common import __version__, subjects
from compute_common.bus import Bus
from compute_common.schemas.node import NodesAnswer, NodeStats
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings as DetectorSettings
from tests.support.apps import serving
from tests.support.nats import NatsServer
from tests.support.waiting import until

NEXT = "0.2.0"
NEW_HOST: dict[str, Any] = {
    "node_id": "new.host",
    "hostname": "new",
    "compute_version": NEXT,
    "managed": True,
    "v": 2,
    "cpu": {"cores": 8, "threads": 16, "sockets": {"count": 2}},
    "memory": {"total_mb": 64_000, "cxl_mb": 1},
    "gpus": [{"index": 0, "name": "H400", "vram_mb": 300_000, "fabric": {"plane": 3}}],
    "tomorrow": {"words": ["nobody", "knows"]},
}


async def test_both_versions_side_by_side(nats_server: NatsServer, bus: Bus) -> None:
    registry = NodeRegistry(Settings.model_validate({"NATS_URL": nats_server.url, "NODE_ID": "core"}))
    registry.version = NEXT
    old = ResourceDetector(DetectorSettings.model_validate({"NATS_URL": nats_server.url, "NODE_ID": "old"}))
    async with serving(registry) as client, serving(old):
        assert (await client.get("/healthz")).json()["version"] == NEXT
        await bus.publish(subjects.NODES_ANNOUNCE, NEW_HOST)
        beat = {"node_id": "new.host", "cpu_utilization": 0.25, "joules": 7, "v": 2}
        await bus.publish(subjects.NODES_HEARTBEAT, beat)

        async def both() -> bool:
            told = (await client.get("/api/v1/stats")).json()
            return bool(told["versions"] == {__version__: 1, NEXT: 1})

        await until(both)
        stats = NodeStats.model_validate((await client.get("/api/v1/stats")).json())
        assert "mixed" in (stats.version_warning or "")
        assert stats.version_warning in (await client.get("/api/v1/overview")).json()["warnings"]

        new = (await client.get("/api/v1/nodes/new.host")).json()
        assert new["gpu_vram_mb"] == 300_000
        assert new["cpu_utilization"] == 0.25
        assert new["compute_version"] == NEXT

        asked = {"min_vram_gb": 200, "like_yesterday": True, "v": 2}
        answer = await bus.request(subjects.NODES_QUERY, asked)
        assert [node["node_id"] for node in answer["nodes"]] == ["new.host"]
        tomorrow = {**answer, "shards": 3, "nodes": [{**answer["nodes"][0], "orbit": "low"}]}
        assert NodesAnswer.model_validate(tomorrow).nodes[0].node_id == "new.host"

        await client.delete("/api/v1/nodes/new.host")
        assert (await client.get("/api/v1/stats")).json()["version_warning"] is None
