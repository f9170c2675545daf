"""Short ways to make the records these tests are about."""

from datetime import UTC, datetime, timedelta
from typing import Any

from compute_common.schemas.node import Heartbeat, NodeDocument, NodeQuery
from node_registry.query import select
from node_registry.records import Moment
from node_registry.table import NodeTable

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def at(seconds: float, by_bus: bool = True) -> Moment:
    return Moment(1000.0 + seconds, START + timedelta(seconds=seconds), by_bus)


def document(node_id: str = "n1", **fields: Any) -> NodeDocument:
    return NodeDocument.model_validate({"node_id": node_id, "hostname": f"host-{node_id}", **fields})


def beat(node_id: str = "n1", **fields: Any) -> Heartbeat:
    return Heartbeat.model_validate({"node_id": node_id, **fields})


def found(table: NodeTable, **query: Any) -> list[str]:
    return [node.node_id for node in select(table, NodeQuery.model_validate(query))]
