"""Answers in pages: the list by node id, and query answers that fit into one message."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nsmallest

from compute_common.schemas.node import NodeQuery
from node_registry.answers import fitting, nodes_json
from node_registry.query import matching, select
from node_registry.rows import Row
from node_registry.table import NodeTable

LARGEST_ANSWER_BYTES = 512 * 1024


@dataclass(frozen=True)
class NodesPage:
    """One answer to a list or a query."""

    nodes: Sequence[Row]
    timestamp: datetime
    next_cursor: str | None = None
    query_id: str | None = None

    @property
    def count(self) -> int:
        return len(self.nodes)

    def list_json(self) -> bytes:
        """As a `NodeList`."""
        return nodes_json(self.nodes, self.next_cursor, self.timestamp, {})

    def answer_json(self) -> bytes:
        """As a `NodesAnswer`, with the id it was asked with."""
        return nodes_json(self.nodes, self.next_cursor, self.timestamp, {"query_id": self.query_id})


def list_page(table: NodeTable, query: NodeQuery, limit: int, at: datetime) -> NodesPage:
    """At most `limit` matching nodes after `query.cursor`, in the order of their ids."""
    found = _by_id(table, query, limit + 1)
    page = found[:limit]
    following = page[-1].node_id if len(found) > limit else None
    return NodesPage(page, at, following)


def query_answer(table: NodeTable, query: NodeQuery, at: datetime, largest: int | None = None) -> NodesPage:
    """Everything that matches, best first.

    With `largest` bytes exceeded, or a cursor given, the answer comes in the order of node ids instead, page
    by page: a ranking changes between two pages, ids do not.
    """
    if query.cursor is None:
        nodes = select(table.ranked(), query)
        if largest is None or fitting(nodes, largest) == len(nodes):
            return NodesPage(nodes, at, query_id=query.query_id)
    found = _by_id(table, query, None)
    page = found[: query.limit]
    if largest is not None:
        page = page[: max(1, fitting(page, largest))]
    following = page[-1].node_id if len(page) < len(found) else None
    return NodesPage(page, at, following, query.query_id)


def _by_id(table: NodeTable, query: NodeQuery, most: int | None) -> list[Row]:
    after = query.cursor or ""
    later = (row for row in table.rows() if row.node_id > after)
    found = matching(later, query)
    if most is None:
        return sorted(found, key=lambda row: row.node_id)
    return nsmallest(most, found, key=lambda row: row.node_id)
