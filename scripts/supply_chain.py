"""Checks without a network what the suite installs: every lock hashed and pinned, licences that allow use.

`make audit` asks the advisory database, which needs a network.
"""

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)(\s*;.*)?\s*\\?\Z"
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\s*\\?\Z")
FREE = re.compile(
    r"\b(MIT|MIT-0|BSD|Apache|ISC|PSF|Python Software Foundation|Mozilla|MPL|Unlicense|0BSD|Zlib|CC0)\b",
    re.IGNORECASE,
)
BINDING = re.compile(r"\b(A?GPL|Affero|SSPL|BUSL|Commons Clause|Proprietary)\b", re.IGNORECASE)


def lock_faults(text: str) -> Iterator[str]:
    """What is wrong with a lock: a line that is no pin, a pin without a hash."""
    pin, hashes = "", 0
    for raw in [*text.splitlines(), "end==0"]:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("--hash"):
            hashes += bool(HASH.match(line))
            continue
        if pin and not hashes:
            yield f"{pin}: no sha256"
        found = PINNED.match(line)
        pin, hashes = (found["name"] if found else ""), 0
        if found is None and not line.startswith("--find-links"):
            yield f"{line[:80]}: not pinned to a version of a registry"


def licence_fault(name: str, said: str) -> str | None:
    """Why a package's licence needs a person to look at it."""
    if FREE.search(said) and not BINDING.search(said.replace("LGPL", "")):
        return None
    return f"{name}: licence {said[:80] or 'unknown'!r}"


def licence_of(name: str) -> str | None:
    """As its metadata says; None where it is not installed here."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [each for each in found.get_all("Classifier") or [] if each.startswith("License")]
    if "License-Expression" in found:
        return found["License-Expression"]
    return "; ".join(classifiers) or (found["License"][:80] if "License" in found else "")


def faults() -> Iterator[str]:
    """Of every lock, and of the licences of what the suite runs with."""
    for lock in sorted(ROOT.glob("requirements*.lock")):
        yield from (f"{lock.name}: {fault}" for fault in lock_faults(lock.read_text()))
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        found = PINNED.match(line)
        said = licence_of(found["name"]) if found else None
        if found and said is not None and (fault := licence_fault(found["name"], said)):
            yield f"requirements.lock: {fault}"


def main() -> int:
    """1 and one line per fault."""
    found = list(faults())
    for fault in found:
        print(fault, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
