"""Readiness of an engine: it says it is healthy AND completes one token (VLLM.md A2: health alone lies)."""

import httpx

HEALTH_SECONDS = 3
COMPLETION_SECONDS = 60
LLAMA_OWNERS = frozenset({"llamacpp", "library", "organization_owner"})  # llama-server, Ollama, LM Studio


async def healthy(client: httpx.AsyncClient, url: str) -> bool:
    """Whether `url` answers 200."""
    try:
        answer = await client.get(url, timeout=HEALTH_SECONDS)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


async def completes(client: httpx.AsyncClient, api: str, model: str) -> str | None:
    """None when one token was completed; otherwise why not."""
    body = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    try:
        answer = await client.post(f"{api}/completions", json=body, timeout=COMPLETION_SECONDS)
    except httpx.HTTPError as error:
        return f"the first completion failed: {type(error).__name__}"
    if answer.status_code != 200:
        return f"the first completion answered {answer.status_code}"
    return None


def names_in_engines(model: str) -> set[str]:
    """How a server that is not ours may call `model`, in lower case: Ollama tags everything."""
    names = {model.lower(), model.rpartition("/")[2].lower()}
    return names | {f"{name}:latest" for name in names}


async def served_models(client: httpx.AsyncClient, api: str) -> tuple[list[str], bool]:
    """(ids that `/models` lists, whether llama.cpp is behind them); empty when it is no such server."""
    try:
        answer = await client.get(f"{api}/models", timeout=HEALTH_SECONDS)
        data = answer.json()["data"] if answer.status_code == 200 else []
        found = [item for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return [], False
    return [item["id"] for item in found], any(item.get("owned_by") in LLAMA_OWNERS for item in found)
