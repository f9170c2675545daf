"""Waiting until an engine has answered what it was asked, by its own metrics."""

import asyncio
import re

import httpx

POLL_SECONDS = 0.2
ASK_SECONDS = 2
_UNDER_WAY = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|llamacpp:requests_(?:processing|deferred))(?:\{.*\})?\s+(\S+)",
    re.MULTILINE,
)


def under_way(metrics: str) -> float:
    """Requests in work or in its queue; 0 when the text does not say."""
    return sum(float(found) for found in _UNDER_WAY.findall(metrics) if found[0].isdigit())


async def drained(client: httpx.AsyncClient, metrics_url: str, limit_seconds: float) -> bool:
    """Whether nothing was under way before `limit_seconds` had passed; an engine that is gone is drained."""
    try:
        async with asyncio.timeout(limit_seconds):
            while True:
                answer = await client.get(metrics_url, timeout=ASK_SECONDS)
                if not under_way(answer.text):
                    return True
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False
    except (httpx.HTTPError, httpx.InvalidURL):
        return True
