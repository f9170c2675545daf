"""A run's figures as feedback in a TensorZero gateway, each cell's on an inference the gateway itself served.

Feedback hangs on ids that the gateway issued: so each cell asks it for one token of the model first.
"""

import asyncio
from collections.abc import Mapping

import httpx
import structlog

from compute_common.schemas.benchmark import Benchmark, Cell
from compute_common.tensorzero import METRICS

log = structlog.get_logger("tensorzero")

NOTE = "tensorzero"  # of a run's environment: what became of it
WHOLE_SECONDS = 60.0
REQUEST_SECONDS = 20.0  # a gateway waits some seconds for an inference to be in its database
QUESTION = [{"role": "user", "content": "Benchmark results follow."}]


class TensorZeroFeedback:
    """`url` of the gateway, with or without `/openai/v1`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/").removesuffix("/openai/v1")

    async def publish(self, run: Benchmark, model: str) -> str:
        """What became of it, for the run's record; never raises and always ends: no run fails for it."""
        cells = [cell for cell in run.cells if cell.valid]
        sent = 0
        try:
            async with asyncio.timeout(WHOLE_SECONDS), self._http() as http:
                episode: str | None = None
                for cell in cells:
                    inference, episode = await self._inference(http, run, model, episode)
                    sent += await self._feedback(http, inference, values(cell), tags(run, cell))
        except TimeoutError:
            return self._refused(run, sent, f"no answer within {WHOLE_SECONDS:g} s")
        except _RefusedError as refusal:
            return self._refused(run, sent, str(refusal))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return self._refused(run, sent, type(error).__name__)
        return f"{sent} values published, episode {episode}" if episode else "no valid cell to publish"

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._url, timeout=REQUEST_SECONDS, trust_env=False)

    async def _inference(
        self, http: httpx.AsyncClient, run: Benchmark, model: str, episode: str | None
    ) -> tuple[str, str]:
        """Ids of one answer of the gateway; all of a run belong to one episode."""
        ask: dict[str, object] = {
            "model": f"tensorzero::model_name::{model}",
            "messages": QUESTION,
            "max_tokens": 1,
            "tensorzero::tags": {"benchmark_id": run.benchmark_id},
        }
        if episode is not None:
            ask["tensorzero::episode_id"] = episode
        answer = await http.post("/openai/v1/chat/completions", json=ask)
        body = _answered(answer, "no inference")
        inference, of_episode = body.get("id"), body.get("episode_id")
        if not isinstance(inference, str) or not isinstance(of_episode, str):
            raise _RefusedError("its answer has no inference and episode id: is it a TensorZero gateway?")
        return inference, of_episode[:64]

    async def _feedback(
        self, http: httpx.AsyncClient, inference: str, measured: Mapping[str, float], about: dict[str, str]
    ) -> int:
        for name, value in measured.items():
            said = {"metric_name": name, "inference_id": inference, "value": value, "tags": about}
            _answered(await http.post("/feedback", json=said), f"no feedback for {name}")
        return len(measured)

    def _refused(self, run: Benchmark, sent: int, reason: str) -> str:
        log.warning("result not in TensorZero", benchmark_id=run.benchmark_id, sent=sent, reason=reason)
        return f"{sent} values published, then: {reason}"


def values(cell: Cell) -> dict[str, float]:
    """The declared metrics that a cell has. Pure."""
    found = {
        "compute_benchmark_output_tokens_per_s": cell.output_tokens_per_s,
        "compute_benchmark_ttft_ms_p50": cell.ttft_ms.p50,
        "compute_benchmark_tpot_ms_p50": cell.tpot_ms.p50,
        "compute_benchmark_e2e_ms_p50": cell.e2e_ms.p50,
    }
    return {name: value for name in METRICS if (value := found[name]) is not None}


def tags(run: Benchmark, cell: Cell) -> dict[str, str]:
    """What tells one cell's feedback from another's. Pure."""
    about = {
        "benchmark_id": run.benchmark_id,
        "batch_size": cell.batch_size if cell.request_rate is None else None,
        "request_rate": cell.request_rate,
        "context_length": cell.context_length,
        "instance_name": run.instance_name,
        "node_id": run.node_id,
    }
    return {key: str(value) for key, value in about.items() if value is not None}


class _RefusedError(Exception):
    """The gateway said no; the message says to what."""


def _answered(answer: httpx.Response, what: str) -> dict[str, object]:
    """The answer's JSON; the refusal's own words are the gateway's, cut short."""
    body = answer.json() if len(answer.content) < 1 << 20 else None
    if answer.is_success and isinstance(body, dict):
        return body
    said = body.get("error") if isinstance(body, dict) else None
    said = said.get("message") if isinstance(said, dict) else said
    raise _RefusedError(f"{what}: HTTP {answer.status_code}, {str(said or 'no reason')[:200]}")
