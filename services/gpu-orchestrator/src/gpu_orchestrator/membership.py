"""Follows the processes of bound reservations, without reading the whole process table at every look."""

from collections.abc import Collection, Sequence

from gpu_orchestrator import processes
from gpu_orchestrator.entries import Entry, Holder, State
from gpu_orchestrator.sessions import Process, members

SCAN_SECONDS = 5.0  # a server has thousands of processes, 25 µs each


class Membership:
    """Remembers who was seen, so that one that left its session still counts. For one thread."""

    def __init__(self) -> None:
        self._boot_id = processes.boot_id()
        self._seen: dict[str, dict[int, int]] = {}
        self._asked_for: frozenset[int] = frozenset()
        self._scanned_at = float("-inf")

    def living(
        self, entries: Sequence[Entry], gpu_pids: Collection[int], now: float
    ) -> dict[str, frozenset[int]]:
        """The living pids of each bound reservation, `gpu_pids` being those that use a GPU now.

        All processes are looked at every five seconds; at once when a reservation was bound, when nobody
        seems to be left of one, and when a process uses a GPU that did not before.
        """
        bound = {e.reservation_id: e.holder for e in entries if e.state is State.BOUND and e.holder}
        fresh = now - self._scanned_at < SCAN_SECONDS and self._asked_for.issuperset(gpu_pids)
        found = self._among_seen(bound) if fresh and bound.keys() <= self._seen.keys() else {}
        if not all(found.get(name) for name in bound):
            found = self._among_all(bound)
            self._asked_for, self._scanned_at = frozenset(gpu_pids), now
        return found

    def _among_seen(self, bound: dict[str, Holder]) -> dict[str, frozenset[int]]:
        """Who of those seen before is still there; the same pid with another start is somebody else."""
        starts = {pid: start for name in bound for pid, start in self._seen[name].items()}
        alive = {pid for pid, start in starts.items() if processes.start_of(pid) == start}
        return {name: frozenset(self._seen[name].keys() & alive) for name in bound}

    def _among_all(self, bound: dict[str, Holder]) -> dict[str, frozenset[int]]:
        containers = any(holder.container_id for holder in bound.values())
        table: dict[int, Process] = processes.snapshot(containers) if bound else {}
        found = {
            name: members(holder, table, self._boot_id, self._seen.get(name, {}))
            for name, holder in bound.items()
        }
        self._seen = {name: {pid: table[pid].start_ticks for pid in pids} for name, pids in found.items()}
        return found
