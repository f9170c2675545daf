"""Real memory control groups, version 1 or 2, where this process may make them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

VERSION_1, VERSION_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class NoGroupError(Exception):
    """None can be made here; the text says why."""


@dataclass(frozen=True)
class MemoryGroup:
    """`folder` is where a process writes its pid to be a member."""

    folder: Path
    version: int

    def seen_from_inside(self, root: Path) -> Path:
        """A root directory under which a reader of /proc and /sys finds itself in this group."""
        top = VERSION_1 if self.version == 1 else VERSION_2
        controllers = "4:memory" if self.version == 1 else "0:"
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(f"{controllers}:/{self.folder.name}\n")
        (root / "proc/meminfo").symlink_to("/proc/meminfo")
        there = root / top.relative_to("/")
        there.parent.mkdir(parents=True)
        there.symlink_to(top)
        return root


@contextmanager
def memory_group(limit_mb: int, name: str | None = None) -> Iterator[MemoryGroup]:
    """A group without members under a limit, and without swap; it must have no members at the end.

    Raises NoGroupError where none can be made.
    """
    version = 1 if VERSION_1.is_dir() else 2
    parent, limit = (VERSION_1, "memory.limit_in_bytes") if version == 1 else (VERSION_2, "memory.max")
    swap = "memory.swappiness" if version == 1 else "memory.swap.max"
    folder = parent / (name or f"compute-test-{uuid4().hex[:8]}")
    if os.name != "posix" or os.geteuid() != 0:
        raise NoGroupError("needs root to make a memory control group")
    try:
        folder.mkdir()
        (folder / limit).write_text(str(limit_mb << 20))
        if (folder / swap).exists():
            (folder / swap).write_text("0")
    except OSError as error:
        if folder.is_dir():
            folder.rmdir()
        raise NoGroupError(f"no memory control group can be made here: {error.strerror}") from error
    try:
        yield MemoryGroup(folder, version)
    finally:
        folder.rmdir()
