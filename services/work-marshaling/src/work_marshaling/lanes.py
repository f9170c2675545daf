"""Pending items in lanes, one per demand: a thousand items that nobody can take cost as much as one."""

import heapq
from collections.abc import Iterator

from work_marshaling.items import Demand, Item

Entry = tuple[float, int, int, Item]  # rank or due time, sequence, ticket, item


class Lanes:
    """An index over the fold's waiting items, in the order in which they should go.

    The order is by priority, then age. One priority step is worth `ageing_seconds` of waiting, so that
    nothing starves; the rank never changes while an item waits. An item's `ticket` tells which entry is its
    own: it is positive while the item is in, and never comes back.
    """

    def __init__(self, ageing_seconds: float) -> None:
        self._ageing = ageing_seconds
        self._lanes: dict[Demand, list[Entry]] = {}
        self._delayed: list[Entry] = []
        self._impatient: list[Entry] = []

    def update(self, item: Item, now: float) -> None:
        """Take the item in when it waits, out when it does not."""
        if not item.waiting:
            self.take(item)
        elif item.ticket <= 0:
            item.ticket = 1 - item.ticket
            if item.queue_timeout is not None:
                due = item.waiting_since + item.queue_timeout
                heapq.heappush(self._impatient, (due, item.seq, item.ticket, item))
            if item.not_before > now:
                heapq.heappush(self._delayed, (item.not_before, item.seq, item.ticket, item))
            else:
                self._push(item)

    def take(self, item: Item) -> None:
        """Out of the lane: it ended, or an assignment of it is under way."""
        if item.ticket > 0:
            item.ticket = -item.ticket

    def release(self, now: float) -> None:
        """Let those go whose `not_before` has come."""
        while self._delayed and self._delayed[0][0] <= now:
            entry = heapq.heappop(self._delayed)
            if _current(entry):
                self._push(entry[3])

    def out_of_patience(self, now: float) -> list[Item]:
        """Those that waited as long as they may; each is told once."""
        found = []
        while self._impatient and self._impatient[0][0] <= now:
            entry = heapq.heappop(self._impatient)
            if _current(entry):
                found.append(entry[3])
        return found

    def next_due(self) -> float | None:
        """When the next delayed item becomes ready."""
        return self._delayed[0][0] if self._delayed else None

    def demands(self) -> list[Demand]:
        """What is being asked for now."""
        return [demand for demand in list(self._lanes) if self._head(demand) is not None]

    def in_order(self, demand: Demand) -> Iterator[tuple[float, int, Item]]:
        """Take the lane's items one by one, first first; an item that is not used goes back by `put_back`."""
        while (entry := self._head(demand)) is not None:
            heapq.heappop(self._lanes[demand])
            yield entry[0], entry[1], entry[3]

    def put_back(self, item: Item) -> None:
        self._push(item)

    def _push(self, item: Item) -> None:
        rank = item.created + item.priority * self._ageing
        heapq.heappush(self._lanes.setdefault(item.demand, []), (rank, item.seq, item.ticket, item))

    def _head(self, demand: Demand) -> Entry | None:
        lane = self._lanes.get(demand, [])
        while lane and not _current(lane[0]):
            heapq.heappop(lane)
        if not lane:
            self._lanes.pop(demand, None)
            return None
        return lane[0]


def _current(entry: Entry) -> bool:
    return entry[3].ticket == entry[2]
