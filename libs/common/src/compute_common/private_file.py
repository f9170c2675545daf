"""Files that only their owner may read: mode 0600 from their first byte on."""

import os
import secrets
from pathlib import Path


def write_private(path: Path, text: str) -> Path:
    """Replace `path` by a file of mode 0600, in one step and lastingly; readers see the old or the new."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
