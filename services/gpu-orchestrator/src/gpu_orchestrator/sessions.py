"""Which processes belong to a bound reservation: pure, over a snapshot of the process table."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpu_orchestrator.entries import Holder


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table; zombies are not in it. `containers`: ids in its cgroup path."""

    pid: int
    parent: int
    session: int
    start_ticks: int
    containers: frozenset[str] = frozenset()


Table = Mapping[int, Process]
Seen = Mapping[int, int]
"""Start ticks by pid."""


def members(holder: Holder, table: Table, boot_id: str, seen: Seen = {}) -> frozenset[int]:  # noqa: B006  (not changed)
    """The living pids of `holder`: none after a reboot.

    A session outlives its leader, so its orphans count; so does every process of `seen`, its members when it
    was last looked at, wherever it moved since. A living process that has the leader's pid and another start
    time means that the pid, and with it the session number, was used again: only those `seen` are left.
    """
    if holder.boot_id != boot_id:
        return frozenset()
    if holder.container_id is not None:
        return frozenset(p.pid for p in table.values() if holder.container_id in p.containers)
    roots = {pid for pid, start in seen.items() if (row := table.get(pid)) and row.start_ticks == start}
    if holder.pid is not None:
        roots |= _of_session(holder, holder.pid, table)
    return frozenset(_with_descendants(roots, table.values())) if roots else frozenset()


def _of_session(holder: Holder, pid: int, table: Table) -> set[int]:
    leader = table.get(pid)
    if leader is not None and leader.start_ticks != holder.start_ticks:
        return set()
    found = {pid} if leader is not None else set()
    if holder.session_id is not None:
        found |= {p.pid for p in table.values() if p.session == holder.session_id}
    return found


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
