"""Work put to an OpenAI-compatible server: any server's handlers, and what the built-in ones share.

server = OpenAIServer("http://127.0.0.1:8000/v1")
worker.handles("inference")(server.inference)
worker.handles("embedding")(server.embedding)
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from compute_common import wire_json
from compute_common.access.engine_door import engine_client
from compute_common.access.engine_hosts import EngineHosts
from compute_common.tracing import HEADER
from compute_node.job import Job, WorkError
from compute_node.stream import Answer, fold_stream

CONNECT_SECONDS = 5.0
ERROR_BODY_BYTES = 2000
RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})
# What a stream of text cannot carry back, or not without loss: these are asked for in one piece.
NOT_STREAMED = frozenset({"tools", "functions", "logprobs", "top_logprobs", "echo", "best_of"})
MAX_RESPONSE_BYTES = 64 << 20
PROGRESS_SECONDS = 1.0
PROGRESS_CHARACTERS = 4000

Ask = Callable[[str, bool], Awaitable[dict[str, Any]]]  # a path of the API, and whether to stream


class OpenAIServer:
    """Handlers that put work to the server at `base_url` (with or without `/v1`), as its model `model`.

    Without `model` the item's own `model_name` is asked for. While text streams in, the item's progress is
    `{chunks, text}`, each second, with the end of the text so far.
    """

    def __init__(self, base_url: str, *, model: str | None = None, api_key: str | None = None) -> None:
        self._base = base_url.rstrip("/").removesuffix("/v1")
        self._model = model
        self._client = Client(api_key)

    async def close(self) -> None:
        await self._client.close()

    async def inference(self, job: Job) -> dict[str, Any]:
        """`messages` go to chat completions, `prompt` to completions, `input` to embeddings."""
        return await inference(job, self._ask(job))

    async def embedding(self, job: Job) -> dict[str, Any]:
        """`input` goes to embeddings."""
        return await embedding(job, self._ask(job))

    def _ask(self, job: Job) -> Ask:
        async def ask(path: str, streamed: bool) -> dict[str, Any]:
            model = self._model or job.model_name
            if model is None:
                raise WorkError("model_name is missing", retryable=False)
            return await self._client.ask(job, self._base + path, model, "the server", streamed=streamed)

        return ask


async def inference(job: Job, ask: Ask) -> dict[str, Any]:
    """The kind of question decides the route."""
    if "messages" in job.payload:
        return await ask("/v1/chat/completions", streamable(job.payload))
    if "prompt" in job.payload:
        return await ask("/v1/completions", streamable(job.payload))
    if "input" in job.payload:
        return await ask("/v1/embeddings", False)
    raise WorkError("payload: one of `prompt`, `messages`, `input` is needed", retryable=False)


async def embedding(job: Job, ask: Ask) -> dict[str, Any]:
    if "input" not in job.payload:
        raise WorkError("payload: `input` is needed", retryable=False)
    return await ask("/v1/embeddings", False)


def streamable(payload: dict[str, Any]) -> bool:
    """Whether one stream of text carries the whole answer."""
    many = isinstance(payload.get("n"), int) and payload["n"] > 1
    several = isinstance(payload.get("prompt"), list)
    asked = any(payload.get(name) not in (None, False) for name in NOT_STREAMED)
    return not (many or several or asked)


class Client:
    """One question at a time over HTTP; what goes wrong is a `WorkError`.

    With `reachable` only an engine there is connected to; without, the caller's own server wherever it is.
    """

    def __init__(self, api_key: str | None = None, reachable: EngineHosts | None = None) -> None:
        # A new connection each time: an engine may close a kept one just as it is used again, and on loopback
        # connecting costs a fraction of a millisecond.
        options: dict[str, Any] = {
            "timeout": httpx.Timeout(None, connect=CONNECT_SECONDS),
            "limits": httpx.Limits(max_keepalive_connections=0),
            "headers": {"Authorization": f"Bearer {api_key}"} if api_key else None,
        }
        if reachable is None:
            self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False, **options)
        else:
            self._http = engine_client(reachable, **options)

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, job: Job, url: str, model: str, who: str, *, streamed: bool) -> dict[str, Any]:
        """The answer as an item's result, `{text, finish_reason, usage, model, ttft_ms, duration_ms, raw}`.

        `who` names the server in errors.
        """
        body = {key: value for key, value in job.payload.items() if key not in ("stream", "stream_options")}
        body["model"] = model
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        started = time.perf_counter()
        try:
            trace = {HEADER: job.traceparent} if job.traceparent else None
            async with self._http.stream("POST", url, json=body, headers=trace) as response:
                await _check(response, who)
                answer = await (_streamed(response, job, started) if streamed else _whole(response))
        except httpx.HTTPError as error:
            raise WorkError(f"{who} did not answer: {type(error).__name__}") from error
        return {
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "model": answer.model or model,
            "ttft_ms": answer.ttft_ms,
            "duration_ms": _since(started),
            "raw": answer.raw,
        }


async def _check(response: httpx.Response, who: str) -> None:
    if response.is_success:
        return
    text = b""
    async for chunk in response.aiter_bytes():
        text += chunk
        if len(text) > ERROR_BODY_BYTES:
            break
    retryable = response.status_code >= 500 or response.status_code in RETRYABLE_STATUSES
    detail = text[:ERROR_BODY_BYTES].decode(errors="replace")
    raise WorkError(f"{who} answered {response.status_code}: {detail}", retryable=retryable)


async def _streamed(response: httpx.Response, job: Job, started: float) -> Answer:
    told = started

    async def tell(answer: Answer) -> None:
        nonlocal told
        now = time.perf_counter()
        if now - told >= PROGRESS_SECONDS:
            told = now
            text = (answer.text or "")[-PROGRESS_CHARACTERS:]
            await job.progress({"chunks": answer.chunks, "text": text})

    return await fold_stream(response.aiter_lines(), lambda: _since(started), tell)


async def _whole(response: httpx.Response) -> Answer:
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


def _since(started: float) -> float:
    """Milliseconds."""
    return round((time.perf_counter() - started) * 1000, 3)
