"""Which replica answers a request: the least busy of those that serve the name."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from vllm_orchestrator.engines.probe import names_in_engines
from vllm_orchestrator.instances.record import Record

MAX_TRIES = 3
SUSPECT_SECONDS = 5.0


def serving(records: Iterable[Record], model: str) -> list[Record]:
    """The records that answer to `model`, ignoring case."""
    wanted = model.lower()
    return [
        record
        for record in records
        if record.endpoints.api and any(name.lower() == wanted for name in record.served_names)
    ]


def engine_model(record: Record, model: str) -> str:
    """What the engine of `record` calls `model`: our own engines know their instance's name."""
    if not record.attached:
        return record.instance_name
    known = record.config.get("models") or []
    wanted = names_in_engines(model)
    found = next((str(name) for name in known if str(name).lower() in wanted), None)
    return found or str(record.config["model"])


class Load:
    """Requests under way per instance, as this gateway knows them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way: Counter[str] = Counter()
        self._last_turn: dict[str, int] = {}
        self._turn = 0
        self._suspect_until: dict[str, float] = {}

    def under_way(self, name: str) -> int:
        return self._under_way[name]

    def order(self, replicas: Iterable[Record]) -> list[Record]:
        """Those to try, best first: not suspect, least busy, longest without a turn.

        A lone replica is listed twice: it may have closed a kept connection just as it was used.
        """
        now = self._clock()

        def rank(record: Record) -> tuple[bool, int, int]:
            name = record.instance_name
            suspect = self._suspect_until.get(name, 0.0) > now
            return suspect, self._under_way[name], self._last_turn.get(name, 0)

        best = sorted(replicas, key=rank)[:MAX_TRIES]
        return best * 2 if len(best) == 1 else best

    def suspect(self, name: str) -> None:
        """It just failed: others first for a while."""
        self._suspect_until[name] = self._clock() + SUSPECT_SECONDS

    def begin(self, name: str) -> Callable[[], None]:
        """Count one request; the answer ends it, once however often it is called."""
        self._turn += 1
        self._last_turn[name] = self._turn
        self._under_way[name] += 1
        ended = False

        def end() -> None:
            nonlocal ended
            if not ended:
                ended = True
                self._under_way[name] -= 1

        return end

    @contextmanager
    def unless_kept(self, name: str) -> Iterator[Callable[[], None]]:
        """`begin`, ended by itself when the block fails."""
        end = self.begin(name)
        try:
            yield end
        except BaseException:
            end()
            raise
