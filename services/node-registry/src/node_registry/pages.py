"""Answers in pages: the list by node id, and query answers that fit into one message."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from compute_common.schemas.node import NodeQuery
from node_registry.answers import node_json, nodes_json
from node_registry.query import in_state, matching_kinds, select
from node_registry.rows import Row
from node_registry.table import NodeTable

LARGEST_ANSWER_BYTES = 512 * 1024


@dataclass(frozen=True)
class NodesPage:
    """One answer to a list or a query: the nodes' ids, and the nodes as JSON."""

    node_ids: list[str]
    bodies: list[bytes]
    timestamp: datetime
    next_cursor: str | None = None
    query_id: str | None = None

    @property
    def count(self) -> int:
        return len(self.node_ids)

    def list_json(self) -> bytes:
        """As a `NodeList`."""
        return nodes_json(self.bodies, self.next_cursor, self.timestamp, {})

    def answer_json(self) -> bytes:
        """As a `NodesAnswer`, with the id it was asked with."""
        return nodes_json(self.bodies, self.next_cursor, self.timestamp, {"query_id": self.query_id})


def list_page(table: NodeTable, query: NodeQuery, limit: int, at: datetime) -> NodesPage:
    """At most `limit` matching nodes after `query.cursor`, in the order of their ids."""
    ids, bodies, more = _fill(_by_id(table, query), limit, None)
    return NodesPage(ids, bodies, at, ids[-1] if more else None)


def query_answer(table: NodeTable, query: NodeQuery, at: datetime, largest: int | None = None) -> NodesPage:
    """Everything that matches, best first.

    With `largest` bytes exceeded, or a cursor given, the answer comes in the order of node ids instead, page
    by page: a ranking changes between two pages, ids do not.
    """
    if query.cursor is None:
        ids, bodies, more = _fill(select(table, query), query.limit, largest)
        if not more or len(ids) == query.limit:
            return NodesPage(ids, bodies, at, query_id=query.query_id)
    ids, bodies, more = _fill(_by_id(table, query), query.limit, largest)
    return NodesPage(ids, bodies, at, ids[-1] if more else None, query.query_id)


def _by_id(table: NodeTable, query: NodeQuery) -> Iterator[Row]:
    kinds = matching_kinds(table, query)
    return (row for row in table.by_id(query.cursor or "") if row.kind in kinds and in_state(row, query))


def _fill(rows: Iterable[Row], limit: int | None, largest: int | None) -> tuple[list[str], list[bytes], bool]:
    """As many rows as the limit and the bytes allow (one at least), and whether there were more."""
    ids: list[str] = []
    bodies: list[bytes] = []
    used = 0
    for row in rows:
        if len(ids) == limit:
            return ids, bodies, True
        body = node_json(row)
        used += len(body) + 1
        if largest is not None and used > largest and ids:
            return ids, bodies, True
        ids.append(row.node_id)
        bodies.append(body)
    return ids, bodies, False
