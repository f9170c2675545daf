"""Engines that already serve, made instances."""

import httpx


async def attach(base: str, endpoint: str, model: str, name: str) -> None:
    """Make the server at `endpoint` an instance."""
    body = {"endpoint": endpoint, "model_name": model, "instance_name": name}
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"{base}/api/v1/vllm/attach", json=body)
    assert answer.status_code == 201, answer.text
