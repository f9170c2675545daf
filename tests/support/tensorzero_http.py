"""A TensorZero gateway over HTTP: inference is the real gateway's, feedback follows its documented contract.

The wheel's gateway serves its OpenAI routes over HTTP but no `/feedback`, and its database (ClickHouse, or
PostgreSQL with pgvector) cannot be had here. So `/feedback` is either the real gateway's own refusal without
a database, or a stand-in that takes what the contract takes: declared metrics, ids that the gateway issued.
"""

import asyncio
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import tensorzero
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.ports import free_port
from tests.support.waiting import until


@dataclass
class Gateway:
    """`took`: every feedback taken; `issued`: inference id → episode id."""

    config: str
    has_database: bool
    url: str = ""
    real: str = ""
    took: list[dict[str, Any]] = field(default_factory=list)
    issued: dict[str, str] = field(default_factory=dict)

    async def chat(self, request: Request) -> Response:
        """Passed on to the real gateway."""
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{self.real}/chat/completions", content=await request.body())
        body = answer.json()
        if answer.is_success:
            self.issued[body["id"]] = body["episode_id"]
        return JSONResponse(body, answer.status_code)

    async def feedback(self, request: Request) -> Response:
        """Taken, or refused with the words of the real one."""
        body: dict[str, Any] = await request.json()
        if not self.has_database:
            return await self._really(body)
        declared = tomllib.loads(self._config_text()).get("metrics", {})
        metric = declared.get(body["metric_name"])
        if metric is None:
            return JSONResponse({"error": f"Metric `{body['metric_name']}` not found in config"}, 400)
        if metric["level"] != "inference" or body["inference_id"] not in self.issued:
            return JSONResponse({"error": "Inference ID does not exist"}, 400)
        if not isinstance(body["value"], float | int) or not all(
            isinstance(tag, str) for tag in body["tags"].values()
        ):
            return JSONResponse({"error": "value or tags of the wrong type"}, 400)
        self.took.append(body)
        return JSONResponse({"feedback_id": body["inference_id"]})

    async def _really(self, body: dict[str, Any]) -> Response:
        building: Any = tensorzero.AsyncTensorZeroGateway.build_embedded(config_file=self.config)
        async with await building as gateway:
            try:
                await gateway.feedback(**body)
            except tensorzero.TensorZeroError as error:
                return Response(error.text, error.status_code, media_type="application/json")
        return JSONResponse({"feedback_id": body["inference_id"]})

    def _config_text(self) -> str:
        path = Path(self.config)
        return "\n".join(found.read_text("utf-8") for found in path.parent.glob(path.name))


@asynccontextmanager
async def tensorzero_gateway(config: str, *, has_database: bool) -> AsyncIterator[Gateway]:
    """`config`: a glob of TOML files, as the real one takes it."""
    made = Gateway(config, has_database)
    starting = tensorzero._start_http_gateway(  # the wheel's only way to serve HTTP
        config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=True
    )
    real: Any = await starting
    made.real = real.base_url
    routes = [
        Route("/openai/v1/chat/completions", made.chat, methods=["POST"]),
        Route("/feedback", made.feedback, methods=["POST"]),
    ]
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=port, log_level="error", ws="none"))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        made.url = f"http://127.0.0.1:{port}"
        yield made
    finally:
        server.should_exit = True
        await task
        real.close()
