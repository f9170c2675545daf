"""Nodes grouped by what filters ask of their hardware and work: ten thousand machines are of a few kinds.

A filter is put to each kind once, not to each node.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compute_common.enums import Platform, Tier


@dataclass(frozen=True, slots=True)
class Facets:
    """What a filter can ask that no heartbeat changes; names in lower case."""

    tier: Tier
    platform: Platform | None
    labels: frozenset[tuple[str, str]]
    models: frozenset[str]  # whole names and last path parts
    work_types: frozenset[str] | None
    managed: bool
    cores: int
    ram_mb: int
    gpu_count: int  # what work can be put on: cards, and the slices of those that are cut
    largest_vram_mb: int
    vram_mb: int


class Kinds:
    """The ids of the nodes of each kind. Kinds are numbered; a number is never used twice."""

    def __init__(self) -> None:
        self._numbers: dict[Facets, int] = {}
        self._members: dict[int, tuple[Facets, set[str]]] = {}
        self._next = 0
        self.answered: dict[str, frozenset[int]] = {}  # filters already put to the present kinds

    def join(self, facets: Facets, node_id: str) -> int:
        """The number of the kind, of which the node now is one."""
        number = self._numbers.get(facets)
        if number is None:
            number = self._numbers[facets] = self._next
            self._members[number] = (facets, set())
            self._next += 1
            self.answered.clear()
        self._members[number][1].add(node_id)
        return number

    def leave(self, number: int, node_id: str) -> None:
        facets, members = self._members[number]
        members.discard(node_id)
        if not members:
            del self._members[number], self._numbers[facets]
            self.answered.clear()

    def __iter__(self) -> Iterator[tuple[int, Facets]]:
        return ((number, facets) for number, (facets, _members) in self._members.items())

    def members(self, numbers: Iterable[int]) -> list[str]:
        """The ids of every node of these kinds."""
        return [node_id for number in numbers for node_id in self._members[number][1]]

    def size(self, numbers: Iterable[int]) -> int:
        return sum(len(self._members[number][1]) for number in numbers)
