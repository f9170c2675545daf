"""The rows of the table by id, in the order of ids, best first, by kind: one place keeps these in step."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from itertools import islice

from node_registry.facets import Kinds
from node_registry.profiles import Profile
from node_registry.ranking import Ranking
from node_registry.records import NodeRecord
from node_registry.rows import Row, row_of


class NodeIndex:
    """What iterates here is to be read before anything is placed or dropped."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._ids: list[str] = []  # sorted
        self._ranking = Ranking()
        self.kinds = Kinds()

    @property
    def rows(self) -> Mapping[str, Row]:
        return self._rows

    def by_id(self, after: str) -> Iterator[Row]:
        """Rows with greater ids than `after`, in order."""
        return map(self._rows.__getitem__, islice(self._ids, bisect_right(self._ids, after), None))

    def ranked(self) -> Iterator[Row]:
        """Every row, best first."""
        return map(self._rows.__getitem__, self._ranking)

    def place(
        self, record: NodeRecord, profile: Profile, *, drained: bool, register_ttl_seconds: float
    ) -> Row:
        """The row that the record now has."""
        node_id = record.node_id
        old = self._rows.get(node_id)
        kind = self._kind_of(node_id, old, profile)
        new = self._rows[node_id] = row_of(record, profile, kind, drained, register_ttl_seconds)
        self._ranking.replace(old.rank if old else None, new.rank)
        return new

    def drop(self, node_id: str) -> bool:
        """Whether there was a row to drop."""
        row = self._rows.pop(node_id, None)
        if row is None:
            return False
        self._ranking.replace(row.rank, None)
        self.kinds.leave(row.kind, node_id)
        del self._ids[bisect_left(self._ids, node_id)]
        return True

    def _kind_of(self, node_id: str, old: Row | None, profile: Profile) -> int:
        if old is None:
            insort(self._ids, node_id)
        elif old.profile is profile or old.profile.facets == profile.facets:
            return old.kind
        else:
            self.kinds.leave(old.kind, node_id)
        return self.kinds.join(profile.facets, node_id)
