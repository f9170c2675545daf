"""The end of a program's log file, and what is added to it: bounded, without secrets."""

import os
import re
import stat
from pathlib import Path

from compute_common.problems import not_found
from compute_common.schemas.checkup import LogAsk, ProgramLog

MAX_BYTES = 256 << 10
_LOGIN = re.compile(r"(?<=://)[^/\s@\"']+@")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}|\b(?<=Bearer )[^\s\"']+")


def read_log(folder: Path, node_id: str, ask: LogAsk) -> ProgramLog:
    """Of `folder`/<program>.log; `Problem` 404 where that program writes none here."""
    try:
        lines, after = _read(folder / f"{ask.program}.log", ask)
    except OSError as error:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))[:32]) or "none"
        detail = f"{ask.program} writes no log file on {node_id} (there are: {known})"
        hint = "; in containers: docker compose logs" if known == "none" else ""
        raise not_found("unknown-log", detail + hint) from error
    return ProgramLog(node_id=node_id, program=ask.program, lines=lines, next_offset=after)


def _read(path: Path, ask: LogAsk) -> tuple[list[str], int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        size = status.st_size
        whole_tail = ask.offset is None
        start = max(0, size - MAX_BYTES) if ask.offset is None else ask.offset
        if start > size:  # it was begun anew
            start = 0
        file.seek(start)
        data = file.read(MAX_BYTES)
    end = data.rfind(b"\n") + 1
    if end == 0 and len(data) == MAX_BYTES:  # one line without an end: in pieces
        end = len(data)
    lines = [_shown(line) for line in data[:end].decode("utf-8", "replace").splitlines()]
    return (lines[-ask.lines :] if whole_tail else lines), start + end


def _shown(line: str) -> str:
    return _TOKEN.sub("***", _LOGIN.sub("***@", line))
