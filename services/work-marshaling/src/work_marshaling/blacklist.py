"""Nodes that keep failing a kind of work are left alone for a while; one success forgives."""

from dataclasses import dataclass, field

MAX_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class BlacklistRule:
    """`failures` within `window_seconds` put a node aside for `cool_down_seconds`, doubled each time."""

    failures: int = 3
    window_seconds: float = 300.0
    cool_down_seconds: float = 60.0


@dataclass(slots=True)
class Record:
    times: list[float] = field(default_factory=list)
    failures: int = 0
    trips: int = 0
    until: float = 0.0
    reason: str = ""


class Blacklist:
    """A score per node and work type. After the cooling time one attempt decides: forgiven, or out longer."""

    def __init__(self, rule: BlacklistRule) -> None:
        self._rule = rule
        self._records: dict[tuple[str, str], Record] = {}

    def failed(self, node_id: str, work_type: str, at: float, reason: str) -> None:
        record = self._records.setdefault((node_id, work_type), Record())
        record.times = [time for time in record.times if at - time < self._rule.window_seconds] + [at]
        record.failures += 1
        record.reason = reason
        probing = record.trips > 0 and at >= record.until
        if len(record.times) >= self._rule.failures or probing:
            record.until = at + self._rule.cool_down_seconds * 2 ** min(record.trips, MAX_DOUBLINGS)
            record.trips += 1
            record.times = []

    def succeeded(self, node_id: str, work_type: str) -> None:
        self._records.pop((node_id, work_type), None)

    def pardon(self, node_id: str, work_type: str) -> None:
        """One failure was not the node's fault; where too few are left it is taken back at once."""
        record = self._records.get((node_id, work_type))
        if record is None:
            return
        record.failures -= 1
        record.times = record.times[:-1]
        if record.failures < 1:
            del self._records[node_id, work_type]
        elif record.failures < self._rule.failures:
            record.until, record.trips = 0.0, 0

    def forgive(self, node_id: str) -> bool:
        """Forget everything held against the node; whether there was anything."""
        gone = [key for key in self._records if key[0] == node_id]
        for key in gone:
            del self._records[key]
        return bool(gone)

    def blocks(self, node_id: str, work_type: str, now: float) -> bool:
        record = self._records.get((node_id, work_type))
        return record is not None and now < record.until

    def records(self) -> list[tuple[str, str, Record]]:
        """Everything held against anybody."""
        return [(*key, record) for key, record in self._records.items()]

    def put(self, node_id: str, work_type: str, record: Record) -> None:
        """Take a record in as a snapshot kept it."""
        self._records[node_id, work_type] = record

    def cooling(self, now: float) -> list[tuple[str, str, Record]]:
        """`(node_id, work_type, record)` of those set aside now."""
        return [(*key, record) for key, record in self._records.items() if now < record.until]
