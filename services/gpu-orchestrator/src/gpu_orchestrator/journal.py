"""The ledger on disk: SQLite, synced before the answer, replayed at start. For one thread."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gpu_orchestrator.entries import Entry, State

KEEP_ENDED_DAYS = 30
BUSY_SECONDS = 3.0
_ENTRY = TypeAdapter(Entry)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reservations (
  reservation_id TEXT PRIMARY KEY, state TEXT NOT NULL, document TEXT NOT NULL,
  changed_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP) STRICT;
CREATE TABLE IF NOT EXISTS cordons (device TEXT PRIMARY KEY) STRICT;
"""


class JournalUnusableError(Exception):
    """The file is corrupt, locked or unreachable; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the journal promised: living reservations, oldest first, and cordoned devices."""

    entries: tuple[Entry, ...]
    cordoned: frozenset[str]


class Journal:
    """`path` is created when it is not there. One process holds it at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None

    def open(self) -> Recovered:
        """Open and replay; raises JournalUnusableError, and leaves the file as it is."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
            return self._replay(self._db)
        except sqlite3.OperationalError as error:
            self.close()
            raise JournalUnusableError(_in_use(error, self.path)) from error
        except (sqlite3.DatabaseError, ValidationError, OSError) as error:
            self.close()
            raise JournalUnusableError(
                f"{self.path} is damaged or unreadable; reservations made before are unknown. "
                "End the engines of this host, move the file away and restart"
            ) from error

    def _replay(self, db: sqlite3.Connection) -> Recovered:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        db.executescript(_SCHEMA)
        with db:
            db.execute(
                "DELETE FROM reservations WHERE state IN (?, ?) AND changed_at < datetime('now', ?)",
                (State.RELEASED, State.EXPIRED, f"-{KEEP_ENDED_DAYS} days"),
            )
        rows = db.execute(
            "SELECT document FROM reservations WHERE state IN (?, ?) ORDER BY rowid",
            (State.CREATED, State.BOUND),
        ).fetchall()
        entries = tuple(_ENTRY.validate_json(document) for (document,) in rows)
        cordoned = frozenset(device for (device,) in db.execute("SELECT device FROM cordons"))
        return Recovered(entries, cordoned)

    def write(self, entries: Iterable[Entry], cordoned: Iterable[str] | None = None) -> None:
        """Keep these states of these reservations (and the whole set of cordons) in one synced commit."""
        with self._connection() as db:
            _put(db, entries, cordoned)

    def rewrite(self, living: Sequence[Entry], cordoned: Iterable[str]) -> None:
        """After a failed write: make the file agree with the ledger in memory again."""
        with self._connection() as db:
            db.execute(
                "UPDATE reservations SET state = ? WHERE state IN (?, ?)",
                (State.RELEASED, State.CREATED, State.BOUND),
            )
            _put(db, living, cordoned)

    def issued(self, reservation_id: str) -> bool:
        """Whether this id was ever given out (kept for 30 days after its end)."""
        found = self._connection().execute(
            "SELECT 1 FROM reservations WHERE reservation_id = ?", (reservation_id,)
        )
        return found.fetchone() is not None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("the journal is closed")
        return self._db


def _put(db: sqlite3.Connection, entries: Iterable[Entry], cordoned: Iterable[str] | None) -> None:
    db.executemany(
        "INSERT INTO reservations (reservation_id, state, document) VALUES (?, ?, ?) "
        "ON CONFLICT (reservation_id) DO UPDATE SET state = excluded.state, "
        "document = excluded.document, changed_at = CURRENT_TIMESTAMP",
        [(e.reservation_id, e.state, _ENTRY.dump_json(e).decode()) for e in entries],
    )
    if cordoned is not None:
        db.execute("DELETE FROM cordons")
        db.executemany("INSERT INTO cordons VALUES (?)", [(device,) for device in cordoned])


def _in_use(error: sqlite3.Error, path: Path) -> str:
    if "locked" in str(error):
        return f"{path} is held by another process; only one GPU orchestrator a host may run"
    return f"{path} cannot be opened; check the folder's permissions and free space"
