"""Node ids best first, kept in order as ranks change, so that a query with a limit reads only its head."""

from bisect import bisect_left, insort
from collections.abc import Iterator

from node_registry.rows import Rank


class Ranking:
    """A sorted list of ranks; each ends in its node's id, so no two are equal."""

    def __init__(self) -> None:
        self._sorted: list[Rank] = []

    def replace(self, old: Rank | None, new: Rank | None) -> None:
        """Take `old` out, put `new` in."""
        if old == new:
            return
        if old is not None:
            del self._sorted[bisect_left(self._sorted, old)]
        if new is not None:
            insort(self._sorted, new)

    def __iter__(self) -> Iterator[str]:
        return (rank[-1] for rank in self._sorted)
