"""The file of keys, `$COMPUTE_HOME/api-keys.json`: mode 0600, refused where others may write it."""

import fcntl
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from compute_common import wire_json
from compute_common.access.api_keys import ApiKey, KeyDocument
from compute_common.private_file import write_private

FILE_NAME = "api-keys.json"
TOKEN_NAME = "api-key"  # noqa: S105 - the name of the file that clients on this host read
MAX_BYTES = 1 << 20
Keys = list[ApiKey]


class KeyFileError(ValueError):
    """The file is there and must not be trusted; the message says what to do."""


def read_keys(path: Path) -> Keys | None:
    """The keys; None without a file. `KeyFileError` when it is no key file or others may write it."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o022:
                raise KeyFileError(f"others may write {path}: chmod 600 it, and look at what it holds")
            if status.st_uid not in (os.geteuid(), 0):
                raise KeyFileError(f"{path} belongs to another user: chown it to the one of the services")
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    try:
        document = KeyDocument.model_validate(wire_json.parse_object(data))
    except (ValidationError, ValueError) as error:
        raise KeyFileError(f"{path} is not a key file; `compute keys` writes it") from error
    return document.keys


def change_keys(path: Path, change: Callable[[Keys], Keys]) -> Keys:
    """Write what `change` makes of the keys; one writer at a time, readers see the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = change(read_keys(path) or [])
        write_private(path, KeyDocument(keys=keys).model_dump_json(indent=1))
    return keys


def client_token(environ: Mapping[str, str], home: Path) -> str | None:
    """What a program on this host shows: COMPUTE_API_KEY, else the token that `compute keys` kept for it."""
    if given := environ.get("COMPUTE_API_KEY"):
        return given
    try:
        return (home / TOKEN_NAME).read_text().strip() or None
    except OSError:
        return None
