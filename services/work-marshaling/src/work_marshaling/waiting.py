"""How many items wait, of which priority, and which longest: told of each change, asked at no cost."""

import heapq
import itertools
from collections import deque

from work_marshaling.items import PENDING, Item

PRIORITIES = 10
SLACK = 1024  # so many entries more than twice the waiting items: the outdated ones are thrown away


class Waiting:
    """The pending items. Those that came back are kept apart from those that wait since their submission."""

    def __init__(self) -> None:
        self.by_priority = [0] * PRIORITIES
        self.count = 0
        self._since_submission: deque[Item] = deque()  # in the log's order, as they came
        self._back: list[tuple[int, int, Item]] = []  # a heap by sequence
        self._tickets = itertools.count()

    def enter(self, item: Item) -> None:
        """It is pending now, and was not before."""
        self.by_priority[item.priority] += 1
        self.count += 1
        if not self._since_submission or item.seq > self._since_submission[-1].seq:
            self._since_submission.append(item)
        else:
            heapq.heappush(self._back, (item.seq, next(self._tickets), item))

    def leave(self, item: Item) -> None:
        """It was pending, and is not any more."""
        self.by_priority[item.priority] -= 1
        self.count -= 1
        if len(self._since_submission) + len(self._back) > 2 * self.count + SLACK:
            self._tidy()

    def oldest(self) -> Item | None:
        """The pending item that was submitted first."""
        while self._since_submission and self._since_submission[0].status is not PENDING:
            self._since_submission.popleft()
        while self._back and self._back[0][2].status is not PENDING:
            heapq.heappop(self._back)
        heads = [*itertools.islice(self._since_submission, 1), *(entry[2] for entry in self._back[:1])]
        return min(heads, key=lambda item: item.seq, default=None)

    def _tidy(self) -> None:
        """Keep one entry of each that is pending."""
        pending = {item.seq: item for item in self._since_submission if item.status is PENDING}
        pending |= {seq: item for seq, _, item in self._back if item.status is PENDING}
        self._since_submission = deque(pending[seq] for seq in sorted(pending))
        self._back = []
