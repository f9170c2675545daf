"""The registry over HTTP; older spellings of a route stand beside it, marked as deprecated."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from compute_common.ids import Identifier
from compute_common.problems import not_found
from compute_common.schemas.node import (
    DrainAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Node,
    NodeDocument,
    NodeList,
    NodeQuery,
    NodesAnswer,
    NodeStats,
    RegisterAnswer,
)
from compute_common.shell.routing import new_router
from compute_common.times import utc_now
from node_registry.answers import single_json
from node_registry.event_stream import EventStream
from node_registry.filters import ListFilter, NodeFilter
from node_registry.pages import list_page, query_answer
from node_registry.registrar import Registrar
from node_registry.status.document import stats
from node_registry.table import NodeTable


def routers(registrar: Registrar, table: NodeTable, stream: EventStream) -> Sequence[APIRouter]:
    """Queries and events first: their paths are more specific than `/nodes/{node_id}`."""
    return [
        _messages(registrar),
        _queries(table),
        _events(stream),
        _summary(table),
        _nodes(registrar, table),
    ]


def _messages(registrar: Registrar) -> APIRouter:
    router = new_router("messages of nodes")

    @router.post("/register", response_model=RegisterAnswer, deprecated=True)
    @router.post("/api/v1/register", response_model=RegisterAnswer, deprecated=True)
    @router.post("/api/v1/nodes/register", response_model=RegisterAnswer)
    async def register(document: NodeDocument) -> RegisterAnswer:
        """Take in a node's document, nested or flat, whole or partial."""
        return await registrar.register(document)

    @router.post("/heartbeat", response_model=HeartbeatAnswer, deprecated=True)
    @router.post("/api/v1/nodes/heartbeat", response_model=HeartbeatAnswer)
    async def heartbeat(beat: Heartbeat) -> HeartbeatAnswer:
        """A sign of life; `known: false` asks the node to register."""
        return await registrar.receive_heartbeat(beat)

    return router


def _queries(table: NodeTable) -> APIRouter:
    router = new_router("queries")

    @router.post("/query", response_model=NodesAnswer, deprecated=True)
    @router.post("/api/v1/nodes/query", response_model=NodesAnswer)
    async def query(filter: NodeQuery) -> Response:  # noqa: A002 - the name in the documentation
        """Nodes that match, best first; online and not draining unless asked otherwise."""
        return _json(query_answer(table, filter, utc_now()).answer_json())

    @router.get("/query", response_model=NodesAnswer, deprecated=True)
    async def query_by_parameters(filter: Annotated[NodeFilter, Query()]) -> Response:  # noqa: A002
        """The same with the filter in the query string."""
        return _json(query_answer(table, filter.query(), utc_now()).answer_json())

    @router.get("/nodes", response_model=NodeList, deprecated=True)
    @router.get("/api/v1/nodes", response_model=NodeList)
    async def list_nodes(filter: Annotated[ListFilter, Query()]) -> Response:  # noqa: A002
        """Every node whatever its status, in the order of ids."""
        return _json(list_page(table, filter.query(), filter.limit, utc_now()).list_json())

    return router


def _events(stream: EventStream) -> APIRouter:
    router = new_router("events")

    @router.get(
        "/api/v1/nodes/events",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "Server-sent events `joined`, `updated`, `draining`, `offline`, `removed`",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    )
    async def events() -> StreamingResponse:
        """Follow what happens to nodes; `data` is `{event, node_id, node?, timestamp}`."""
        return StreamingResponse(
            stream.listen(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )

    return router


def _summary(table: NodeTable) -> APIRouter:
    router = new_router("summary")

    @router.get("/stats", response_model=NodeStats, deprecated=True)
    @router.get("/api/v1/stats", response_model=NodeStats)
    async def statistics() -> NodeStats:
        """How many nodes there are, by tier."""
        return stats(list(table.rows()), utc_now())

    return router


def _nodes(registrar: Registrar, table: NodeTable) -> APIRouter:
    router = new_router("nodes")

    @router.get("/nodes/{node_id}", response_model=Node, deprecated=True)
    @router.get("/api/v1/nodes/{node_id}", response_model=Node)
    async def one(node_id: Identifier) -> Response:
        """One node, with its flat form under `capabilities`."""
        row = table.row(node_id)
        if row is None:
            raise not_found(
                "unknown-node", f"no node '{node_id}' is registered; GET /api/v1/nodes lists them"
            )
        return _json(single_json(row))

    @router.delete("/api/v1/nodes/{node_id}", status_code=204)
    async def remove(node_id: Identifier) -> None:
        """Forget a node; one that still lives announces itself again."""
        await registrar.delete(node_id)

    @router.post("/nodes/{node_id}/drain", response_model=DrainAnswer, deprecated=True)
    @router.post("/api/v1/nodes/{node_id}/drain", response_model=DrainAnswer)
    async def drain(node_id: Identifier) -> DrainAnswer:
        """Give the node no new work until `undrain`, whatever it says of itself; idempotent."""
        return await registrar.set_drain(node_id, drain=True)

    @router.post("/nodes/{node_id}/undrain", response_model=DrainAnswer, deprecated=True)
    @router.post("/api/v1/nodes/{node_id}/undrain", response_model=DrainAnswer)
    async def undrain(node_id: Identifier) -> DrainAnswer:
        """Lift the drain; idempotent."""
        return await registrar.set_drain(node_id, drain=False)

    return router


def _json(body: bytes) -> Response:
    """Ready JSON, as its route's response model describes it."""
    return Response(body, media_type="application/json")
