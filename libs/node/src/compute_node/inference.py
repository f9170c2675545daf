"""Work types `inference` and `embedding`: ask the ready instance of this node over its OpenAI-like API."""

import time
from typing import Any

import httpx

from compute_common import wire_json
from compute_common.schemas.vllm import Instance
from compute_node.instances import Instances, api_base
from compute_node.job import Job, WorkError
from compute_node.stream import Answer, fold_stream

CONNECT_SECONDS = 5.0
ERROR_BODY_BYTES = 2000
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
# What a stream of text cannot carry back, or not without loss: these are asked for in one piece.
NOT_STREAMED = frozenset({"tools", "functions", "logprobs", "top_logprobs", "echo", "best_of"})
MAX_RESPONSE_BYTES = 64 << 20


class Inference:
    """The built-in handlers. Only this node's instances are called, never an address from a payload."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)
        # A new connection each time: an engine may close a kept one just as it is used again, and on loopback
        # connecting costs a fraction of a millisecond.
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            timeout=timeout, limits=fresh, trust_env=False, follow_redirects=False
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def inference(self, job: Job) -> dict[str, Any]:
        """`messages` go to chat completions, `prompt` to completions, `input` to embeddings."""
        if "messages" in job.payload:
            return await self._ask(job, "/v1/chat/completions", streamed=_streamable(job.payload))
        if "prompt" in job.payload:
            return await self._ask(job, "/v1/completions", streamed=_streamable(job.payload))
        if "input" in job.payload:
            return await self._ask(job, "/v1/embeddings", streamed=False)
        raise WorkError("payload: one of `prompt`, `messages`, `input` is needed", retryable=False)

    async def embedding(self, job: Job) -> dict[str, Any]:
        """`input` goes to embeddings."""
        if "input" not in job.payload:
            raise WorkError("payload: `input` is needed", retryable=False)
        return await self._ask(job, "/v1/embeddings", streamed=False)

    async def _ask(self, job: Job, path: str, *, streamed: bool) -> dict[str, Any]:
        instance, name = await self._instance(job)
        url = f"{api_base(instance)}{path}"
        body = {key: value for key, value in job.payload.items() if key not in ("stream", "stream_options")}
        body["model"] = name
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        try:
            async with self._client.stream("POST", url, json=body) as response:
                await _check(response, instance)
                answer = await (_streamed if streamed else _whole)(response, started)
        except httpx.HTTPError as error:
            reason = f"{instance.instance_name} did not answer: {type(error).__name__}"
            raise WorkError(reason) from error
        return {
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "model": answer.model or instance.model_name,
            "instance_name": instance.instance_name,
            "ttft_ms": answer.ttft_ms,
            "duration_ms": round((time.perf_counter() - started) * 1000, 3),
            "raw": answer.raw,
        }

    async def _instance(self, job: Job) -> tuple[Instance, str]:
        """The instance for the job's model, woken when it is idle; asks the orchestrator once more first."""
        found = self._instances.find(job.model_name)
        if found is None:
            await self._instances.refresh()
            found = self._instances.find(job.model_name)
        if found is None and await self._instances.wake(job.model_name, job.timeout_seconds):
            found = self._instances.find(job.model_name)
        if found is not None:
            return found
        if job.model_name is None:
            ready = ", ".join(self._instances.names()) or "none"
            raise WorkError(f"model_name is missing; ready on this node: {ready}", retryable=False)
        raise WorkError(f"no ready instance of {job.model_name} on this node; deploy it")


def _streamable(payload: dict[str, Any]) -> bool:
    many = isinstance(payload.get("n"), int) and payload["n"] > 1
    several = isinstance(payload.get("prompt"), list)
    asked = any(payload.get(name) not in (None, False) for name in NOT_STREAMED)
    return not (many or several or asked)


async def _check(response: httpx.Response, instance: Instance) -> None:
    if response.is_success:
        return
    text = b""
    async for chunk in response.aiter_bytes():
        text += chunk
        if len(text) > ERROR_BODY_BYTES:
            break
    retryable = response.status_code >= 500 or response.status_code in RETRYABLE_STATUSES
    detail = text[:ERROR_BODY_BYTES].decode(errors="replace")
    raise WorkError(
        f"{instance.instance_name} answered {response.status_code}: {detail}", retryable=retryable
    )


async def _streamed(response: httpx.Response, started: float) -> Answer:
    return await fold_stream(response.aiter_lines(), lambda: (time.perf_counter() - started) * 1000)


async def _whole(response: httpx.Response, _started: float) -> Answer:
    data = b""
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_RESPONSE_BYTES:
            raise WorkError("the engine's answer is larger than 64 MiB", retryable=False)
    try:
        raw = wire_json.parse_object(data)
    except ValueError as error:
        raise WorkError("the engine's answer is not JSON") from error
    return Answer.of_whole(raw)
