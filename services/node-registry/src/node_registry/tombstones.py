"""Removals that are remembered for an hour: no store and no replica brings such a node back."""

from node_registry.records import Moment

TOMBSTONE_SECONDS = 3600.0


class Tombstones:
    """At most `most`; past that the oldest is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._moments: dict[str, Moment] = {}  # oldest first

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._moments

    def get(self, node_id: str) -> Moment | None:
        """When the node was removed."""
        return self._moments.get(node_id)

    def bury(self, node_id: str, at: Moment) -> None:
        self._moments.pop(node_id, None)
        if len(self._moments) >= self._most:
            self._moments.pop(next(iter(self._moments)))
        self._moments[node_id] = at

    def revive(self, node_id: str) -> None:
        """The node's own word: it is there again."""
        self._moments.pop(node_id, None)

    def forget(self, now: float) -> None:
        """Drop what is older than an hour."""
        while self._moments:
            oldest = next(iter(self._moments))
            if now - self._moments[oldest].mono < TOMBSTONE_SECONDS:
                return
            del self._moments[oldest]
