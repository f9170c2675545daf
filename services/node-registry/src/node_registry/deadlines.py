"""Who may be overdue: a heap of one reminder a node, so that a tick looks at few of ten thousand.

A reminder is never later than the node's true deadline; one that comes too early is set again.
"""

from heapq import heappop, heappush


class Deadlines:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._set: dict[str, float] = {}

    def remind(self, node_id: str, deadline: float) -> None:
        """At `deadline`, or earlier where an earlier reminder is set already."""
        known = self._set.get(node_id)
        if known is None or deadline < known:
            self._set[node_id] = deadline
            heappush(self._heap, (deadline, node_id))

    def due(self, now: float) -> list[str]:
        """Nodes to look at; their reminders are gone."""
        found = []
        while self._heap and self._heap[0][0] < now:
            deadline, node_id = heappop(self._heap)
            if self._set.get(node_id) == deadline:
                del self._set[node_id]
                found.append(node_id)
        return found
