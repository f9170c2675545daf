"""Whom to ask to announce again, how loudly, and how widely their answers shall be spread.

Pure; seconds are monotonic. An answer on its way is not asked for again: a registry that is behind with
announcements would only get more of them. What is asked aloud reaches every node, so for one of them it is
asked a few times a second only.
"""

from node_registry.liveness import DEFAULT_BEAT_SECONDS

AGAIN_SECONDS = 2.0
ALOUD_PER_SECOND = 10
ASKED_PER_SECOND = 500
WAVE_PER_SECOND = 100
MOST_ASKED = 10_000
ANNOUNCEMENTS_PER_SECOND = 2000  # what one core takes in
SHORTEST_SPREAD_SECONDS = 1.0
LONGEST_SPREAD_SECONDS = 8.0  # everything is known again within ten
LONGEST_READING_SECONDS = 10.0
LISTEN_SECONDS = 0.25  # before everybody is asked: who beats meanwhile and is not known


class Asks:
    """What was asked lately."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._strangers = 0
        self._answers_until = 0.0
        self._second = 0
        self._this_second = 0
        self._wave_second = 0
        self._wave = 0

    def may_ask(self, node_id: str, now: float) -> bool:
        """Whether this stranger is to be asked now; then it counts as asked."""
        if now - self._asked.get(node_id, -AGAIN_SECONDS) < AGAIN_SECONDS:
            return False
        if len(self._asked) >= MOST_ASKED:
            self._asked.clear()
        self._asked[node_id] = now
        self._strangers += 1
        if int(now) != self._second:
            self._second, self._this_second = int(now), 0
        self._this_second += 1
        most = ALOUD_PER_SECOND if now < self._answers_until else ASKED_PER_SECOND
        return self._this_second <= most

    def may_ask_aloud(self) -> bool:
        """Whether this question, too, may go to all."""
        return self._this_second <= ALOUD_PER_SECOND

    def joined(self, now: float) -> None:
        """A node announced itself; while many do, the answers of the others wait in line, too."""
        if int(now) != self._wave_second:
            self._wave_second, self._wave = int(now), 0
        self._wave += 1
        if self._wave >= WAVE_PER_SECOND:
            self._answers_until = max(self._answers_until, now + AGAIN_SECONDS)

    def reading(self, now: float) -> None:
        """The store is being read: most strangers are in it."""
        self._answers_until = now + LONGEST_READING_SECONDS

    def listen(self) -> None:
        """Begin to count strangers; `everybody` follows `LISTEN_SECONDS` later."""
        self._strangers = 0

    def everybody(self, known: int, now: float) -> float:
        """The seconds over which all shall spread their answers: by those known and the strangers."""
        nodes = known + self._strangers * DEFAULT_BEAT_SECONDS / LISTEN_SECONDS
        spread = min(LONGEST_SPREAD_SECONDS, max(SHORTEST_SPREAD_SECONDS, nodes / ANNOUNCEMENTS_PER_SECOND))
        self._answers_until = now + spread + AGAIN_SECONDS
        return spread
