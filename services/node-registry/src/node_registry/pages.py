"""Answers in pages: the list by node id, and query answers that fit into one message."""

from collections.abc import Sequence
from datetime import datetime

from compute_common import wire_json
from compute_common.schemas.node import Node, NodeList, NodeQuery, NodesAnswer
from node_registry.query import matches, select
from node_registry.table import NodeTable

LARGEST_ANSWER_BYTES = 512 * 1024


def list_page(table: NodeTable, query: NodeQuery, limit: int, at: datetime) -> NodeList:
    """At most `limit` matching nodes after `query.cursor`, in the order of their ids."""
    found = _by_id(table, query)
    page = found[:limit]
    following = page[-1].node_id if len(found) > limit else None
    return NodeList(nodes=page, count=len(page), next_cursor=following, timestamp=at)


def query_answer(table: NodeTable, query: NodeQuery, at: datetime, largest: int | None = None) -> NodesAnswer:
    """Everything that matches, best first.

    With `largest` bytes exceeded, or a cursor given, the answer comes in the order of node ids instead, page
    by page: a ranking changes between two pages, ids do not.
    """
    if query.cursor is None:
        nodes = select(table.nodes(), query)[: query.limit]
        if largest is None or _fitting(nodes, largest) == len(nodes):
            return NodesAnswer(nodes=nodes, count=len(nodes), timestamp=at, query_id=query.query_id)
    found = _by_id(table, query)
    page = found[: query.limit]
    if largest is not None:
        page = page[: max(1, _fitting(page, largest))]
    following = page[-1].node_id if len(page) < len(found) else None
    return NodesAnswer(
        nodes=page, count=len(page), next_cursor=following, timestamp=at, query_id=query.query_id
    )


def _by_id(table: NodeTable, query: NodeQuery) -> list[Node]:
    after = query.cursor or ""
    found = [node for node in table.nodes() if node.node_id > after and matches(node, query)]
    return sorted(found, key=lambda node: node.node_id)


def _fitting(nodes: Sequence[Node], largest: int) -> int:
    """How many of the nodes fit into so many bytes of JSON."""
    used = 0
    for number, node in enumerate(nodes):
        used += len(wire_json.dump(node)) + 1
        if used > largest:
            return number
    return len(nodes)
