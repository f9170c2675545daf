"""Which names have a connection to NATS: a node whose process dies loses its own.

Pure. A name is back when any connection carries it; several may. What a restarting server cuts is no death.
"""

from collections.abc import Iterable

GRACE_SECONDS = 1.5  # within the promised two; a client that was merely cut reconnects in a quarter of one
BRIEF_SECONDS = 1.0  # a connection opened for one message says nothing of its node

Key = tuple[str, int]  # server id, client id there


class Connections:
    """Open connections by name, and the names that have none left."""

    def __init__(self) -> None:
        self._open: dict[str, set[Key]] = {}
        self._closed: set[Key] | None = None
        self._lost: dict[str, float] = {}

    def begin(self) -> None:
        """Know nothing and blame nobody; a list of what is open will follow (`listed`)."""
        self._open.clear()
        self._lost.clear()
        self._closed = set()

    def listed(self, connections: Iterable[tuple[str, Key]]) -> None:
        """Connections that a server named as open; what closed meanwhile stays closed."""
        for name, key in connections:
            if self._closed is None or key not in self._closed:
                self._open.setdefault(name, set()).add(key)
        self._closed = None

    def opened(self, name: str, key: Key) -> None:
        self._open.setdefault(name, set()).add(key)
        self._lost.pop(name, None)

    def closed(self, name: str, key: Key, lived_seconds: float, now: float) -> None:
        """`lived_seconds` by the server's own clock; a brief connection is nobody's sign of life."""
        if self._closed is not None:
            self._closed.add(key)
        held = self._open.get(name, set())
        held.discard(key)
        if held:
            return
        self._open.pop(name, None)
        if lived_seconds >= BRIEF_SECONDS:
            self._lost[name] = now

    def gone(self, now: float) -> list[tuple[str, float]]:
        """Names without a connection for the whole grace time, and since when; each is told once."""
        due = [(name, since) for name, since in self._lost.items() if now - since >= GRACE_SECONDS]
        for name, _since in due:
            del self._lost[name]
        return due
