"""The archive: a gzipped tar of `manifest.json`, `streams/<n>.snapshot`, `files/<path in COMPUTE_HOME>`."""

import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from compute_cli.purge import STATE

FORMAT = 1
MANIFEST = "manifest.json"
# Neither made anew at every start, nor too large for an archive, nor a stream's own files.
_MADE_ANEW = {"containers", "docker-proxy.sock", "engines", "lock", "nats.conf", "nats.pid", "run"}
KEPT = STATE - _MADE_ANEW - {"logs", "models", "nats"}
_SQLITE = b"SQLite format 3\0"
ATTEMPTS = 50
ATTEMPT_SECONDS = 0.1


class ArchiveError(Exception):
    """Not an archive of ours, or not one that this version can read."""


def gather(home: Path, into: Path) -> list[str]:
    """Copy the state files of `home` below `into`; their paths. A database is copied as of one moment."""
    found = []
    for source in sorted(_state_files(home)):
        name = source.relative_to(home)
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, target)
        found.append(name.as_posix())
    return found


def pack(folder: Path, manifest: dict[str, Any], archive: Path) -> None:
    """Write `folder` and the manifest as `archive`, for its owner only; whole, or not at all."""
    partial = archive.with_name(f"{archive.name}.partial")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    with os.fdopen(handle, "wb") as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar:
            for path in sorted(folder.rglob("*")):
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(archive)


def unpack(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack into an empty `folder`; its manifest. ArchiveError for anything but an archive of ours."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = [member for member in tar if _ours(member)]
            tar.extractall(folder, members=members, filter="data")
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        written = int(manifest["format"])
    except (OSError, tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{archive} is no back-up of this suite, or a damaged one") from error
    if written > FORMAT:
        raise ArchiveError(
            f"{archive} is of version {manifest.get('version')}, which is newer: restore it with that one"
        )
    return manifest


def put_back(folder: Path, names: Sequence[str], home: Path) -> None:
    """Move unpacked state files to where they were; only what a back-up may hold."""
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[0] not in KEPT:
            raise ArchiveError(f"the archive names {name}, which no back-up of this suite holds")
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / path).replace(target)
        target.chmod(0o600)


def _state_files(home: Path) -> Iterator[Path]:
    for top in sorted(KEPT):
        path = home / top
        for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
            if file.is_file() and not file.is_symlink() and not file.name.endswith(("-wal", "-shm")):
                yield file


def _copy(source: Path, target: Path) -> None:
    """Copy a file; a database with its write-ahead log, as of one moment.

    The ledger keeps its journal locked while it runs, so SQLite's own back-up would wait for ever: the two
    files are copied until neither changed meanwhile, and the copy is opened and checked.
    """
    with source.open("rb") as file:
        database = file.read(len(_SQLITE)) == _SQLITE
    parts = [(source, target)]
    if database:
        parts.append((_log_of(source), _log_of(target)))
    for _ in range(ATTEMPTS):
        before = [_mark(part) for part, _ in parts]
        for part, copy in parts:
            if part.exists():
                shutil.copyfile(part, copy)
        if before == [_mark(part) for part, _ in parts] and (not database or _whole(target)):
            return
        time.sleep(ATTEMPT_SECONDS)
    raise ArchiveError(f"{source} changes faster than it can be copied, or is damaged")


def _log_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _whole(database: Path) -> bool:
    """Whether the copy opens; its log is folded into it on the way."""
    try:
        with closing(sqlite3.connect(database)) as opened:
            return bool(opened.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def _ours(member: tarfile.TarInfo) -> bool:
    top = PurePosixPath(member.name).parts[:1]
    return (member.isfile() or member.isdir()) and top in {(MANIFEST,), ("streams",), ("files",)}
