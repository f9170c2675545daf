"""The process table of this host, read from /proc."""

import os
import re
from contextlib import suppress
from pathlib import Path

from compute_common.problems import Problem, conflict
from gpu_orchestrator.entries import Holder
from gpu_orchestrator.sessions import Process, members

PROC = Path("/proc")
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_FIRST_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of the kernel
_KIB_PER_MIB = 1024
START_TOLERANCE_SECONDS = 1.5


def boot_id(proc: Path = PROC) -> str:
    """The kernel's id of this boot; empty where there is none."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def in_first_namespace(proc: Path = PROC) -> bool:
    """Whether the pids seen here are the machine's own, which are those that a GPU driver tells."""
    try:
        return (proc / "self/ns/pid").readlink().as_posix() == _FIRST_NAMESPACE
    except OSError:
        return False


def name_of(pid: int, proc: Path = PROC) -> str | None:
    """The short name of a process (never its arguments, which may hold a key); None when it has ended."""
    try:
        text = _read(f"{proc}/{pid}/comm").rstrip("\n")
    except OSError:
        return None
    return "".join(letter if letter.isprintable() else "?" for letter in text) or None


def snapshot(with_containers: bool = False, proc: Path = PROC) -> dict[int, Process]:
    """Every living process that can be seen; `with_containers` also reads each one's cgroup."""
    table: dict[int, Process] = {}
    for name in os.listdir(proc):  # noqa: PTH208  (called every second; a Path per entry costs four times as much)
        if name.isdigit():
            process = _process(f"{proc}/{name}", int(name), with_containers)
            if process is not None:
                table[process.pid] = process
    return table


def start_of(pid: int, proc: Path = PROC) -> int | None:
    """When a living process started, in clock ticks since boot; None when there is none."""
    process = _process(f"{proc}/{pid}", pid, with_containers=False)
    return None if process is None else process.start_ticks


def _process(folder: str, pid: int, with_containers: bool) -> Process | None:
    try:
        stat = _read(f"{folder}/stat")
        fields = stat[stat.rindex(")") + 2 :].split(None, 20)  # the name before may hold spaces and brackets
        if fields[0] in "ZXx":
            return None
        containers = _containers(_read(f"{folder}/cgroup")) if with_containers else frozenset[str]()
        return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), containers)
    except (OSError, ValueError, IndexError):
        return None  # it ended meanwhile


def _read(path: str) -> str:
    """A small file of /proc, by the bare calls: this is what a look at every process costs."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 16_384).decode(errors="replace")
    finally:
        os.close(descriptor)


def _containers(cgroups: str) -> frozenset[str]:
    """Of a container in a container both ids."""
    return frozenset(_CONTAINER.findall(cgroups))


def unreclaimable_mb(pid: int, proc: Path = PROC) -> int:
    """Anonymous and shared memory of a process, MiB; mapped files are cache the kernel can take back."""
    kib = 0
    with suppress(OSError, ValueError):
        for line in (proc / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                kib += int(line.split()[1])
    return kib // _KIB_PER_MIB


def holder_of_pid(pid: int, start_time: float | None = None, proc: Path = PROC) -> Holder:
    """The holder that a pid names; 409 when no such process, started then, can be seen."""
    process = _process(f"{proc}/{pid}", pid, with_containers=False)
    if process is None or not _started_at(process, start_time, proc):
        raise conflict(
            "no-such-process",
            f"no living process {pid} can be seen from here (another container has other pids): "
            "bind a process of this host, or keep the reservation alive with /renew",
        )
    session = process.session if process.session == pid else None
    return Holder(boot_id(proc), pid=pid, start_ticks=process.start_ticks, session_id=session)


def _started_at(process: Process, start_time: float | None, proc: Path) -> bool:
    """Whether it started at that time, to the second (the kernel counts ticks since boot)."""
    if start_time is None:
        return True
    boot = next(line for line in (proc / "stat").read_text().splitlines() if line.startswith("btime "))
    started = int(boot.split()[1]) + process.start_ticks / os.sysconf("SC_CLK_TCK")
    return abs(started - start_time) <= START_TOLERANCE_SECONDS


def holder_of_container(container_id: str, proc: Path = PROC) -> Holder:
    """The holder that a container's full id names; 409 when none of its processes can be seen."""
    if not _CONTAINER.fullmatch(container_id):
        raise Problem(422, "invalid-request", "container_id must be the full id of 64 hexadecimal digits")
    holder = Holder(boot_id(proc), container_id=container_id)
    if not members(holder, snapshot(with_containers=True, proc=proc), holder.boot_id):
        raise conflict("no-such-container", "no living process of that container can be seen from here")
    return holder
