"""Rows that wait for a store that is away, kept in a file: a restart meanwhile neither loses nor resurrects.

One JSON array a line, `[table, columns]`; replaced as a whole. What cannot be read in it is left out.
"""

import contextlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from compute_common.schemas.base import JsonObject

WaitingRow = tuple[str, JsonObject]


class WaitingFile:
    """Raises OSError only from `replace`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[WaitingRow]:
        """What was kept; nothing where there is no file."""
        try:
            lines = self.path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        return [row for line in lines if (row := _parsed(line)) is not None]

    def written_at(self) -> datetime | None:
        """When it was last replaced; None where there is no file."""
        try:
            return datetime.fromtimestamp(self.path.stat().st_mtime, UTC)
        except OSError:
            return None

    def replace(self, rows: Sequence[WaitingRow]) -> None:
        """Keep these and nothing else; no rows, no file."""
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(f".{os.getpid()}")
        try:
            draft.write_text("".join(json.dumps(row) + "\n" for row in rows))
            draft.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise


def _parsed(line: str) -> WaitingRow | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    match value:
        case [str() as table, {"node_id": str()} as columns]:
            return table, columns
    return None
