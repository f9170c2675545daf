"""One registry, and the node of the specification."""

import httpx

from node_registry.service import NodeRegistry
from node_registry.settings import Settings

DEAF = "nats://127.0.0.1:1"  # where nobody listens
SPEC_NODE = {
    "node_id": "my-submodule-node",
    "hostname": "submodule-host",
    "tier": "GPU_PEER",
    "cpu": {"cores": 16, "threads": 32},
    "memory": {"total_gb": 64},
    "gpus": [{"name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564}],
}


def registry(url: str) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": url, "NATS_WAIT_SECONDS": 0.2}))


async def status_of(client: httpx.AsyncClient, node_id: str) -> str | None:
    answer = await client.get(f"/api/v1/nodes/{node_id}")
    return str(answer.json()["status"]) if answer.status_code == 200 else None
