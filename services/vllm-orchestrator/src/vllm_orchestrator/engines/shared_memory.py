"""What engines leave in /dev/shm when they are killed, and only theirs (VLLM.md A5)."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

FOLDER = "/dev/shm"  # noqa: S108  (the kernel's own place, not a temporary file of ours)
_ENGINES = re.compile(r"(?:vllm_dist_|psm_|sem\.mp-)[^/\s]{1,200}\Z")


def held_by(pids: Iterable[int]) -> dict[str, int]:
    """Name → inode of the engine segments that these processes have mapped."""
    held: dict[str, int] = {}
    for pid in pids:
        held |= _mapped(pid)
    return held


def sweep(left: Mapping[str, int]) -> list[str]:
    """Remove those of `left` that still are what they were and that no living process has mapped."""
    if not left:
        return []
    used = held_by(psutil.pids())
    gone = []
    for name, inode in left.items():
        path = Path(FOLDER) / name
        if _ENGINES.match(name) is None or used.get(name) == inode:
            continue
        with suppress(OSError):
            status = path.lstat()
            if status.st_ino == inode and status.st_uid == os.getuid():
                path.unlink()
                gone.append(name)
    return gone


def _mapped(pid: int) -> dict[str, int]:
    """Of one process; nothing where it ended, is another user's, or the kernel has no /proc."""
    found: dict[str, int] = {}
    with suppress(OSError), Path(f"/proc/{pid}/maps").open(encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if FOLDER not in line:
                continue
            fields = line.split(maxsplit=5)
            name = fields[-1].strip().removeprefix(FOLDER + "/")
            if len(fields) == 6 and _ENGINES.match(name):
                found[name] = int(fields[4])
    return found
