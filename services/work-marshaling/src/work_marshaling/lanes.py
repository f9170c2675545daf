"""Pending items in lanes, one per demand: a thousand items that nobody can take cost as much as one."""

import heapq
from collections.abc import Iterator

from work_marshaling.items import Demand, Item

Entry = tuple[float, int, str, int]  # rank, sequence, work_id, attempt


class Lanes:
    """An index over the fold's waiting items, in the order in which they should go.

    The order is by priority, then age. One priority step is worth `ageing_seconds` of waiting, so that
    nothing starves; the rank never changes while an item waits.
    """

    def __init__(self, ageing_seconds: float) -> None:
        self._ageing = ageing_seconds
        self._lanes: dict[Demand, list[Entry]] = {}
        self._delayed: list[tuple[float, int, str, int]] = []
        self._waiting: dict[str, tuple[Item, int]] = {}

    def update(self, item: Item, now: float) -> None:
        """Take the item in when it waits, out when it does not."""
        if not item.waiting:
            self._waiting.pop(item.work_id, None)
            return
        stamp = item.attempt
        known = self._waiting.get(item.work_id)
        if known is not None and known[0] is item and known[1] == stamp:
            return
        self._waiting[item.work_id] = (item, stamp)
        if item.not_before > now:
            heapq.heappush(self._delayed, (item.not_before, item.seq, item.work_id, stamp))
        else:
            self._push(item)

    def take(self, work_id: str) -> None:
        """Out of the lane: an assignment of it is under way."""
        self._waiting.pop(work_id, None)

    def release(self, now: float) -> None:
        """Let those go whose `not_before` has come."""
        while self._delayed and self._delayed[0][0] <= now:
            _, _, work_id, stamp = heapq.heappop(self._delayed)
            item = self._current(work_id, stamp)
            if item is not None:
                self._push(item)

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
            item, _ = self._waiting[entry[2]]
            yield entry[0], entry[1], item

    def put_back(self, item: Item) -> None:
        self._push(item)

    def _push(self, item: Item) -> None:
        rank = item.created + item.priority * self._ageing
        heapq.heappush(self._lanes.setdefault(item.demand, []), (rank, item.seq, item.work_id, item.attempt))

    def _head(self, demand: Demand) -> Entry | None:
        lane = self._lanes.get(demand, [])
        while lane and self._current(lane[0][2], lane[0][3]) is None:
            heapq.heappop(lane)
        if not lane:
            self._lanes.pop(demand, None)
            return None
        return lane[0]

    def _current(self, work_id: str, stamp: int) -> Item | None:
        item, current = self._waiting.get(work_id, (None, -1))
        return item if current == stamp else None
