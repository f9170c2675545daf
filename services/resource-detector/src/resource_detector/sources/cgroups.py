"""The limits of the control groups this process is in, version 1 and 2, from its own group up to the root."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from resource_detector.findings import Notes

NO_LIMIT = 1 << 60  # version 1 says "none" with a number near 2^63


@dataclass(frozen=True)
class MemoryLimit:
    """Bytes. `used` is what counts against the limit: usage without the reclaimable page cache."""

    limit: int
    used: int
    where: str


@dataclass(frozen=True)
class _Mount:
    version: int
    controllers: frozenset[str]
    root: str
    point: Path


class Cgroups:
    """Reads below `proc_root` (as /proc) and `sys_root` (as /sys)."""

    def __init__(self, proc_root: Path, sys_root: Path, notes: Notes) -> None:
        self._proc = proc_root
        self._sys = sys_root
        self._notes = notes
        self._mounts = list(self._read_mounts())
        self._groups = dict(self._read_groups())

    def memory_limits(self) -> list[MemoryLimit]:
        """Every memory limit above this process, the nearest first."""
        names = {
            1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            2: ("memory.max", "memory.current", "inactive_file"),
        }
        found = []
        for version, folder in self._folders("memory"):
            limit_name, usage_name, cache_name = names[version]
            limit, where = _number(folder / limit_name), folder / limit_name
            above = _stat(folder / "memory.stat", "hierarchical_memory_limit") if version == 1 else 0
            if above and (limit is None or above < limit):  # of a group above what is mounted here
                limit, where = above, folder / "memory.stat"
            if limit is None or limit >= NO_LIMIT:
                continue
            usage = _number(folder / usage_name) or 0
            cache = _stat(folder / "memory.stat", cache_name)
            found.append(MemoryLimit(limit, max(0, usage - cache), self._shown(where)))
        return found

    def cpu_quota(self) -> tuple[float, str] | None:
        """The smallest CPU quota in CPUs, and where it stands; None without one."""
        found = [
            (quota, self._shown(folder))
            for version, folder in self._folders("cpu")
            if (quota := _quota(folder, version)) is not None
        ]
        return min(found, default=None)

    def swap_limit(self) -> int | None:
        """The smallest swap limit in bytes; version 1 limits memory and swap together."""
        limits = [_swap_limit(folder, version) for version, folder in self._folders("memory")]
        return min((limit for limit in limits if limit is not None), default=None)

    def _folders(self, controller: str) -> Iterator[tuple[int, Path]]:
        for mount in self._mounts:
            if mount.version == 1 and controller not in mount.controllers:
                continue
            group = self._groups.get(controller if mount.version == 1 else "")
            if group is None:
                continue
            for folder in _upwards(mount, group):
                yield mount.version, folder

    def _read_mounts(self) -> Iterator[_Mount]:
        text = self._notes.attempt("mountinfo", (self._proc / "self/mountinfo").read_text)
        for line in (text or "").splitlines():
            before, mark, after = line.partition(" - ")
            left, right = before.split(), after.split()
            if not mark or len(left) < 5 or len(right) < 3 or right[0] not in ("cgroup", "cgroup2"):
                continue
            version = 2 if right[0] == "cgroup2" else 1
            yield _Mount(version, frozenset(right[2].split(",")), left[3], self._under_sys(left[4]))

    def _read_groups(self) -> Iterator[tuple[str, str]]:
        text = self._notes.attempt("cgroup", (self._proc / "self/cgroup").read_text)
        for line in (text or "").splitlines():
            _hierarchy, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for controller in controllers.split(","):
                yield controller, path

    def _under_sys(self, point: str) -> Path:
        relative = PurePosixPath(point)
        if relative.parts[:2] == ("/", "sys"):
            return self._sys.joinpath(*relative.parts[2:])
        return Path(point)

    def _shown(self, path: Path) -> str:
        try:
            return f"/sys/{path.relative_to(self._sys).as_posix()}"
        except ValueError:
            return path.as_posix()


def _upwards(mount: _Mount, group: str) -> Iterator[Path]:
    """The group's folder and each above it, up to the mount point.

    In a container the path may be that of the host, of which only a part (`mount.root`) is mounted.
    """
    inside = PurePosixPath(group)
    root = PurePosixPath(mount.root)
    parts: tuple[str, ...] = ()
    if inside.is_relative_to(root) and ".." not in inside.parts:
        parts = inside.relative_to(root).parts
    for depth in range(len(parts), -1, -1):
        yield mount.point.joinpath(*parts[:depth])


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file, or it says `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(maxsplit=1) for line in lines if " " in line)
    value = values.get(name, "0").strip()
    return int(value) if value.isascii() and value.isdigit() else 0


def _swap_limit(folder: Path, version: int) -> int | None:
    if version == 2:
        return _number(folder / "memory.swap.max")
    both, memory = _number(folder / "memory.memsw.limit_in_bytes"), _number(folder / "memory.limit_in_bytes")
    if both is None or memory is None or both >= NO_LIMIT:
        return None
    return max(0, both - memory)


def _quota(folder: Path, version: int) -> float | None:
    if version == 1:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    else:
        try:
            first, _, second = (folder / "cpu.max").read_text().strip().partition(" ")
        except OSError:
            return None
        quota = int(first) if first.isdigit() else None
        period = int(second) if second.isdigit() else None
    if not quota or not period:
        return None
    share = quota / period
    return share if math.isfinite(share) and share > 0 else None
