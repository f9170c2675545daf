"""Which processes belong to a bound reservation: pure, over a snapshot of the process table."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_orchestrator.entries import Holder


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table; zombies are not in it."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    container_id: str | None = None


Table = Mapping[int, Process]


def members(holder: Holder, table: Table, boot_id: str) -> frozenset[int]:
    """The living pids of `holder`: none after a reboot.

    A session outlives its leader, so its orphans count. A living process that has the leader's pid and
    another start time means that the pid, and with it the session number, was used again: nobody is left.
    """
    if holder.boot_id != boot_id:
        return frozenset()
    if holder.container_id is not None:
        return frozenset(p.pid for p in table.values() if p.container_id == holder.container_id)
    if holder.pid is None:
        return frozenset()
    leader = table.get(holder.pid)
    if leader is not None and leader.start_ticks != holder.start_ticks:
        return frozenset()
    roots = {holder.pid} if leader is not None else set()
    if holder.session_id is not None:
        roots |= {p.pid for p in table.values() if p.session == holder.session_id}
    return frozenset(_with_descendants(roots, table.values()))


def _with_descendants(roots: set[int], processes: Iterable[Process]) -> set[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for process in processes:
        children[process.parent].append(process.pid)
    found, queue = set(roots), list(roots)
    while queue:
        fresh = [pid for pid in children[queue.pop()] if pid not in found]
        found.update(fresh)
        queue.extend(fresh)
    return found
