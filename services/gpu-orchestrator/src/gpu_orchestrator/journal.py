"""The ledger on disk: SQLite, synced before the answer, replayed at start. For one thread."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter

from compute_common.ids import new_id
from gpu_orchestrator.entries import Entry
from gpu_orchestrator.marker import Marker
from gpu_orchestrator.orders import Orders, Source, Yield

KEEP_ISSUED = 100_000  # newest ids that are known even after their end, so that releasing one again is 204
PRUNE_EVERY = 1_000
BUSY_SECONDS = 0.2  # it is tried again every second
_ENTRY = TypeAdapter(Entry)
_YIELDS = TypeAdapter(tuple[Yield, ...])
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reservations (
  reservation_id TEXT PRIMARY KEY, state TEXT NOT NULL, document TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS living ON reservations (reservation_id) WHERE state IN ('created', 'bound');
CREATE TABLE IF NOT EXISTS cordons (device TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


class JournalUnusableError(Exception):
    """The file is missing, corrupt, locked or unreachable; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What the journal promised: living reservations, oldest first, and standing orders."""

    entries: tuple[Entry, ...]
    orders: Orders


class Journal:
    """`path` is made at the first start of a host, and never again while `marker` is there."""

    def __init__(self, path: Path, marker: Path) -> None:
        self.path = path
        self._marker = Marker(marker)
        self._db: sqlite3.Connection | None = None
        self._ended = 0

    def open(self) -> Recovered:
        """Open and replay; raises JournalUnusableError, and leaves the files as they are."""
        try:
            known = self._marker.read()
            if known is not None and not (self.path.exists() and self.path.stat().st_size):
                raise JournalUnusableError(self._lost("is missing or empty"))
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
            return self._replay(self._db, known)
        except JournalUnusableError:
            self.close()
            raise
        except sqlite3.OperationalError as error:
            self.close()
            raise JournalUnusableError(_in_use(error, self.path)) from error
        except (sqlite3.DatabaseError, ValueError, OSError) as error:
            self.close()
            raise JournalUnusableError(self._lost("is damaged or unreadable")) from error

    def _replay(self, db: sqlite3.Connection, known: str | None) -> Recovered:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        found = _journal_id(db)
        if known is not None and found != known:
            raise JournalUnusableError(self._lost("is not the one this host used last"))
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        db.executescript(_SCHEMA)
        if known is None:
            self._introduce(db, found)
        with db:
            _prune(db)
        rows = db.execute(
            "SELECT document FROM reservations WHERE state IN ('created', 'bound') ORDER BY rowid"
        ).fetchall()
        return Recovered(tuple(_ENTRY.validate_json(document) for (document,) in rows), _orders(db))

    def _introduce(self, db: sqlite3.Connection, found: str | None) -> None:
        """The journal's id first, then the marker: a crash between them leaves a journal without one."""
        journal_id = found or new_id("journal")
        with db:
            _note(db, "journal_id", journal_id)
        self._marker.write(journal_id)

    def _lost(self, what: str) -> str:
        return (
            f"{self.path} {what}; reservations made before are unknown. Put the journal back; or end the "
            f"engines of this host, move what is left of it away and remove {self._marker.path}: within "
            "seconds the ledger then starts empty"
        )

    def write(self, entries: Iterable[Entry], orders: Orders | None = None) -> None:
        """Keep these states of these reservations (and the standing orders) in one synced commit."""
        with self._connection() as db:
            self._ended += _put(db, entries, orders)
            if self._ended >= PRUNE_EVERY:
                self._ended = 0
                _prune(db)

    def rewrite(self, living: Sequence[Entry], orders: Orders) -> None:
        """After a failed write: make the file agree with the ledger in memory again."""
        with self._connection() as db:
            db.execute("UPDATE reservations SET state = 'released' WHERE state IN ('created', 'bound')")
            _put(db, living, orders)

    def issued(self, reservation_id: str) -> bool:
        """Whether this id was given out and is living or among the newest KEEP_ISSUED."""
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


def _journal_id(db: sqlite3.Connection) -> str | None:
    """None for a new file and for one written before journals had an id."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone() is None:
        return None
    return _fact(db, "journal_id")


def _fact(db: sqlite3.Connection, name: str) -> str | None:
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _note(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def _orders(db: sqlite3.Connection) -> Orders:
    skipped = _fact(db, "quiet_skipped_until")
    return Orders(
        cordoned=frozenset(device for (device,) in db.execute("SELECT device FROM cordons")),
        yields=_YIELDS.validate_json(_fact(db, "yields") or "[]"),
        quiet_skipped_until=datetime.fromisoformat(skipped) if skipped else None,
    )


def _put(db: sqlite3.Connection, entries: Iterable[Entry], orders: Orders | None) -> int:
    """Write them; how many of the entries have ended. Of those only the id is kept."""
    rows = [
        (e.reservation_id, e.state.value, _ENTRY.dump_json(e).decode() if e.state.living else "")
        for e in entries
    ]
    db.executemany(
        "INSERT INTO reservations (reservation_id, state, document) VALUES (?, ?, ?) "
        "ON CONFLICT (reservation_id) DO UPDATE SET state = excluded.state, document = excluded.document",
        rows,
    )
    if orders is not None:
        db.execute("DELETE FROM cordons")
        db.executemany("INSERT INTO cordons VALUES (?)", [(device,) for device in orders.cordoned])
        lasting = tuple(each for each in orders.yields if each.source is Source.OPERATOR)
        _note(db, "yields", _YIELDS.dump_json(lasting).decode())
        skipped = orders.quiet_skipped_until
        _note(db, "quiet_skipped_until", "" if skipped is None else skipped.isoformat())
    return sum(1 for row in rows if not row[2])


def _prune(db: sqlite3.Connection) -> None:
    """Forget the ended among all but the newest rows (rows are numbered as they are made)."""
    db.execute(
        "DELETE FROM reservations WHERE rowid <= (SELECT max(rowid) FROM reservations) - ? "
        "AND state IN ('released', 'expired')",
        (KEEP_ISSUED,),
    )


def _in_use(error: sqlite3.Error, path: Path) -> str:
    if "locked" in str(error):
        return f"{path} is held by another process; only one GPU orchestrator a host may run"
    return f"{path} cannot be opened; check the folder's permissions and free space"
