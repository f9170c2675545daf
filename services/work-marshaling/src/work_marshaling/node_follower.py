"""The scheduler's picture of the nodes: the registry's events, and its whole answer every few seconds."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus, Message
from compute_common.problems import Problem
from compute_common.schemas.node import Node, NodeEvent
from compute_common.tasks import end_tasks
from work_marshaling.fleet import Fleet, view

log = structlog.get_logger("nodes")

MISSED_ANSWERS = 3  # a registry that was just started may not know everybody yet


class NodeFollower:
    """`fleet` is the picture; `changed()` is called whenever it is another one."""

    def __init__(
        self, bus: Bus, refresh_seconds: float, default_slots: int, changed: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._refresh = refresh_seconds
        self._default_slots = default_slots
        self._changed = changed
        self._missed: dict[str, int] = {}
        self._touched: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.fleet = Fleet()
        self.answered_at: float | None = None  # monotonic; None: the registry has never answered

    async def start(self) -> None:
        await self._bus.subscribe(subjects.NODES_EVENT, self._event)
        self._task = asyncio.create_task(self._refresh_for_ever(), name="nodes-refresh")
        self._bus.on_connect(self._connected)

    async def stop(self) -> None:
        await end_tasks([self._task])

    async def probe(self) -> tuple[bool, str | None]:
        """The health check: whether the registry answers."""
        if self.answered_at is None:
            return False, "the node registry has not answered yet"
        age = time.monotonic() - self.answered_at
        if age > 4 * self._refresh + 2:
            return False, f"the node registry has not answered for {age:.0f} s; its last picture is used"
        return True, f"{len(self.fleet.nodes)} nodes"

    async def _connected(self) -> None:
        self._wake.set()

    async def _event(self, message: Message) -> None:
        event = NodeEvent.model_validate(message)
        self._touched.add(event.node_id)
        if event.event == "removed":
            self._set(self.fleet.without(event.node_id))
        elif event.node is not None:
            self._set(self.fleet.with_node(view(event.node, self._default_slots)))

    async def _refresh_for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._ask()
            except (Problem, ValidationError) as error:
                log.debug("the registry did not answer", reason=str(error)[:200])
            try:
                await asyncio.wait_for(self._wake.wait(), self._refresh)
            except TimeoutError:
                continue

    async def _ask(self) -> None:
        """Take over the registry's whole table. An event that came meanwhile is newer than the answer."""
        self._touched.clear()
        documents: list[Any] = []
        cursor: str | None = None
        while True:
            filters: dict[str, Any] = {"online_only": False, "include_draining": True}
            if cursor:
                filters["cursor"] = cursor
            answer = await self._bus.request(subjects.NODES_QUERY, filters, 2.0)
            documents += answer.get("nodes") or []
            following = answer.get("next_cursor")
            if not following or following == cursor:
                break
            cursor = str(following)
        self.answered_at = time.monotonic()
        self._merge(documents)

    def _merge(self, documents: list[Any]) -> None:
        nodes = {}
        for document in documents:
            try:
                node = view(Node.model_validate(document), self._default_slots)
            except ValidationError as error:
                log.warning("a node of the registry cannot be read", reason=str(error)[:300])
                continue
            nodes[node.node_id] = node
        for node_id, known in self.fleet.nodes.items():
            if node_id in self._touched:
                nodes[node_id] = known
            elif node_id not in nodes:
                self._missed[node_id] = self._missed.get(node_id, 0) + 1
                if self._missed[node_id] < MISSED_ANSWERS:
                    nodes[node_id] = known
        self._missed = {
            node_id: count
            for node_id, count in self._missed.items()
            if node_id in nodes and count < MISSED_ANSWERS
        }
        for document in documents:
            if isinstance(document, dict):
                self._missed.pop(str(document.get("node_id")), None)
        if nodes != self.fleet.nodes:
            self._set(Fleet(nodes.values()))

    def _set(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._changed()
