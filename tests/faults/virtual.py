"""A cluster on a virtual clock: the server, the network, and time itself. No process, no socket, no waiting.

Everything that happens is an action in one heap, and one seeded generator draws every chance, so a seed is
a run. Times are seconds since 1970, far ahead of today: nothing may look at the real clock.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from compute_common import subjects, wire_json
from tests.faults.model import Entry

BEGINNING = 4_000_000_000.0
PATIENCE = 2.0  # how long a publisher waits for a receipt
WINDOW = 120.0  # of the server's duplicate detection

Act = Callable[[], None]
Answer = Callable[[int | None], None]


@dataclass
class Weather:
    """The chances of the network, per message."""

    lost: float = 0.0
    unanswered: float = 0.0  # recorded, but the receipt is lost
    doubled: float = 0.0
    late: float = 0.0


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311  (a seed is a run)
        self.now = BEGINNING
        self.weather = Weather()
        self._queue: list[tuple[float, int, Act]] = []
        self._turn = itertools.count()

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def later(self, seconds: float, act: Act) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._turn), act))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time go on, at most until then."""
        while self._queue and self._queue[0][0] <= until and not done():
            self.now, _, act = heapq.heappop(self._queue)
            act()

    def delay(self) -> float:
        """Of one message."""
        slow = 4.0 if self.chance(self.weather.late) else 0.01
        return self.random.random() * slow


class Actor:
    """A process: what it set out to do ends with its life, and waits while it is stopped."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = False
        self._life = 0
        self._stopped = False
        self._held: list[Act] = []

    def do(self, seconds: float, act: Act) -> None:
        life = self._life

        def go() -> None:
            if self._life != life or not self.alive:
                return
            if self._stopped:
                self._held.append(go)
            else:
                act()

        self.world.later(seconds, go)

    def start(self) -> None:
        self.alive, self._stopped = True, False
        self._life += 1
        self._held.clear()

    def kill(self) -> None:
        self.alive = False
        self._life += 1

    def stop(self) -> None:
        self._stopped = self.alive

    def go_on(self) -> None:
        """What came while it stood still comes now, in its order."""
        self._stopped = False
        held, self._held = self._held, []
        for act in held:
            self.do(0.0, act)


class Server:
    """The log and the rules of its server: compare-and-set, duplicates by message id, refusal when full."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[Entry] = []
        self.up = True
        self.full = False
        self.clock_step = 0.0
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        self._last_decision = 0
        self._ids: dict[str, tuple[int, float]] = {}

    def publish(
        self,
        subject: str,
        body: dict[str, Any] | bytes,
        *,
        message_id: str | None = None,
        follows: int | None = None,
        answer: Answer = lambda _seq: None,
    ) -> None:
        """Through the network. `answer` gets the sequence, 0 for a refusal, None when there is no receipt."""
        data = body if isinstance(body, bytes) else wire_json.dump(body)
        world, weather = self.world, self.world.weather

        def arrive(answered: bool) -> None:
            seq = self._record(subject, data, message_id, follows) if self.up else None
            if answered and seq is not None:
                world.later(world.delay(), lambda: answer(seq))
            elif answered:
                world.later(PATIENCE, lambda: answer(None))

        if world.chance(weather.lost):
            world.later(PATIENCE, lambda: answer(None))
        elif world.chance(weather.unanswered):
            world.later(world.delay(), lambda: arrive(False))
            world.later(PATIENCE, lambda: answer(None))
        else:
            world.later(world.delay(), lambda: arrive(True))
        if world.chance(weather.doubled):
            world.later(world.delay(), lambda: arrive(False))

    def _record(self, subject: str, data: bytes, message_id: str | None, follows: int | None) -> int:
        """The sequence, or 0: refused. Core subscribers hear it in either case."""
        self._tell(subject, data)
        known = self._ids.get(message_id or "")
        if known is not None and self.world.now - known[1] < WINDOW:
            return known[0]
        if self.full or not self.compares(follows):
            return 0
        seq = len(self.log) + 1
        self.log.append(Entry(seq, self.world.now + self.clock_step, subject, data, follows))
        if message_id is not None:
            self._ids[message_id] = seq, self.world.now
        if subject == subjects.WORK_DECIDED:
            self._last_decision = seq
        return seq

    def compares(self, follows: int | None) -> bool:
        """Whether nobody decided since; what asks for no comparison passes."""
        return follows is None or follows == self._last_decision

    def _tell(self, subject: str, data: bytes) -> None:
        if subject not in (subjects.WORK_ASSIGNED, subjects.WORK_CANCELLED):
            return
        body = wire_json.parse_object(data)
        for listener in self.listeners:
            if not self.world.chance(self.world.weather.lost):
                self._hear(listener, subject, body)
            if self.world.chance(self.world.weather.doubled):
                self._hear(listener, subject, body)

    def _hear(self, listener: Callable[[str, dict[str, Any]], None], subject: str, body: Any) -> None:
        self.world.later(self.world.delay(), lambda: listener(subject, body))
