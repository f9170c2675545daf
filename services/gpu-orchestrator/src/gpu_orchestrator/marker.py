"""A note outside the journal that a journal exists, so that a lost one is noticed."""

import os
from pathlib import Path

from compute_common.ids import is_identifier


class Marker:
    """One small file with the id of the journal in use. An operator removes it to accept an empty ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str | None:
        """The id; None when there is no marker. An unreadable one is an id that no journal has."""
        try:
            text = self.path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        return text if is_identifier(text) else "unreadable"

    def write(self, journal_id: str) -> None:
        """On disk, name and content, when this returns."""
        draft = self.path.with_name(f"{self.path.name}.new")
        with draft.open("w") as file:
            file.write(f"{journal_id}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
