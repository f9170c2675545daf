"""Log files of bounded size: one of at most `MAX_LOG_BYTES` and a little, and its predecessor beside it."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

MAX_LOG_BYTES = 10 << 20


def set_aside(log: Path) -> None:
    """Before a program starts: a large file becomes `<name>.1`."""
    if _too_large(log):
        log.replace(_predecessor(log))


def cut(log: Path) -> None:
    """While its program writes on: copy a large file to `<name>.1` and empty it.

    The writer appends, so it goes on at the start. What it writes between copy and cut is lost.
    """
    if not _too_large(log):
        return
    draft = _predecessor(log).with_suffix(".tmp")
    with suppress(OSError):  # no room for a copy: emptied all the same
        shutil.copyfile(log, draft)
        draft.replace(_predecessor(log))
    draft.unlink(missing_ok=True)
    os.truncate(log, 0)


def _too_large(log: Path) -> bool:
    return log.exists() and log.stat().st_size > MAX_LOG_BYTES


def _predecessor(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
