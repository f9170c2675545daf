"""Whether an engine is at work, by its own metrics: vLLM's and llama-server's."""

import asyncio
import re
import time
from dataclasses import dataclass

import httpx

ASK_SECONDS = 2
QUIET_LOOKS = 2
LOOK_SECONDS = 0.1
_NOW = frozenset(
    {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
    }
)
_EVER = frozenset(
    {
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
        "vllm:request_success_total",
        "llamacpp:prompt_tokens_total",
        "llamacpp:tokens_predicted_total",
        "llamacpp:n_decode_total",
    }
)
_SAMPLE = re.compile(r"^([a-z]+:\w+)(?:\{.*\})?\s+(\S+)")


@dataclass(frozen=True)
class Activity:
    """`under_way` requests now; `done` grows with every token ever handled."""

    under_way: float
    done: float


def activity_of(metrics: str) -> Activity | None:
    """What Prometheus text of an engine says; None when it says nothing of requests."""
    now, ever, known = 0.0, 0.0, False
    for line in metrics.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        name, text = sample.groups()
        try:
            value = float(text)
        except ValueError:
            continue
        known = known or name in _NOW
        now += value if name in _NOW else 0
        ever += value if name in _EVER else 0
    return Activity(now, ever) if known else None


async def ask_activity(client: httpx.AsyncClient, url: str) -> Activity | None:
    """What the engine at `url` (its /metrics) is doing; None when it does not say."""
    try:
        answer = await client.get(url, timeout=ASK_SECONDS)
    except httpx.HTTPError:
        return None
    return activity_of(answer.text) if answer.status_code == 200 else None


async def idle_within(client: httpx.AsyncClient, url: str, limit_seconds: float) -> bool | None:
    """True once nothing was under way in two looks; False when it still was at the end; None where unsaid.

    Two looks, because a request that was sent before the engine went off the routes may still be on its way.
    """
    deadline = time.monotonic() + limit_seconds
    quiet = 0
    while True:
        activity = await ask_activity(client, url)
        if activity is None:
            return None
        quiet = quiet + 1 if activity.under_way == 0 else 0
        if quiet == QUIET_LOOKS:
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(LOOK_SECONDS)
