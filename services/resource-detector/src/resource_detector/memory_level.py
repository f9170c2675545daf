"""How this host's memory is, as its GPU orchestrator says it; every heartbeat carries it on."""

import time
from collections.abc import Callable

from compute_common.enums import MemoryLevel
from compute_common.schemas.memory import NodeMemoryLevel

SILENT_SECONDS = 20.0  # four repetitions missed: nobody watches memory here (any more)


class HeardLevel:
    """The last level heard; `ok` when nobody says one, since a registry keeps what is not said again."""

    def __init__(self, node_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_id = node_id
        self._clock = clock
        self._level: MemoryLevel | None = None
        self._heard_at = clock()

    def hear(self, said: NodeMemoryLevel) -> bool:
        """Take it in; whether the level is another one now. Another host's is nothing."""
        if said.node_id != self._node_id:
            return False
        changed = said.level is not self.now()
        self._level, self._heard_at = said.level, self._clock()
        return changed

    def now(self) -> MemoryLevel | None:
        """None in the first seconds, before anybody could have said it."""
        return MemoryLevel.OK if self._clock() - self._heard_at > SILENT_SECONDS else self._level
