"""Reads folders, limits, files with secrets, and the memory that Windows gives to WSL."""

import os
import re
import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from compute_common.checkup.facts import Disk, ModelFolder, SecretFile, Wsl
from compute_common.units import MIB

TOKEN_FORM = re.compile(r"hf_[A-Za-z0-9]{30,}")
SECRETS = ("api-keys.json", "api-key", "nats.conf", "nats-compute.secret", "nats-sys.secret")
MOST_ENTRIES = 5000
MOST_SECRETS = 64
DEPTH = 3
_CAP = re.compile(r"^\s*memory\s*=\s*\S", re.IGNORECASE | re.MULTILINE)


def read_disks(home: Path, models: Path) -> tuple[Disk, ...]:
    """Of COMPUTE_HOME and the model folder; once where it is one disk."""
    found: dict[int, Disk] = {}
    for label, path in (("COMPUTE_HOME", home), ("models", models)):
        there = _nearest(path)
        try:
            device, usage = there.stat().st_dev, shutil.disk_usage(there)
        except OSError:
            continue
        found.setdefault(device, Disk(label, str(path), usage.free // MIB, usage.total // MIB))
    return tuple(found.values())


def _nearest(path: Path) -> Path:
    """The path, or the folder it would be made in."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def read_models(folder: Path) -> ModelFolder:
    """GGUF files and folders with a config.json, up to three levels down; at most 5,000 entries looked at."""
    if not folder.is_dir():
        return ModelFolder(str(folder), exists=False)
    if not os.access(folder, os.R_OK | os.X_OK):
        return ModelFolder(str(folder), exists=True, readable=False)
    models, unreadable = 0, None
    for count, path in enumerate(_inside(folder, DEPTH)):
        if count >= MOST_ENTRIES:
            break
        if not os.access(path, os.R_OK):
            unreadable = unreadable or str(path)
        elif path.suffix.lower() == ".gguf" or path.name == "config.json":
            models += 1
    return ModelFolder(str(folder), exists=True, models=models, unreadable=unreadable)


def _inside(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        yield path
        if depth > 1 and path.is_dir():
            yield from _inside(path, depth - 1)


def token_well_formed(environ: Mapping[str, str]) -> bool | None:
    """Of HF_TOKEN; None without one."""
    token = environ.get("HF_TOKEN")
    return bool(TOKEN_FORM.fullmatch(token)) if token else None


def read_secrets(home: Path, more: Iterable[Path] = ()) -> tuple[SecretFile, ...]:
    """Those that are there, with their modes; none is opened."""
    paths = [*(home / name for name in SECRETS), *sorted(home.glob("*.creds"))]
    paths += [*sorted(home.glob("nodes/*.creds")), *more]
    found = []
    for path in dict.fromkeys(paths[:MOST_SECRETS]):
        try:
            status = path.stat()
        except OSError:
            continue
        own = status.st_uid in (os.geteuid(), 0)
        found.append(SecretFile(str(path), status.st_mode & 0o777, own))
    return tuple(found)


def open_file_limit() -> int:
    """What this process may hold open; programs it starts inherit it."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def read_wsl(proc: Path = Path("/proc"), users: Path = Path("/mnt/c/Users")) -> Wsl | None:
    """None outside of WSL."""
    try:
        if "microsoft" not in (proc / "version").read_text().lower():
            return None
        first = (proc / "meminfo").read_text().split()
        return Wsl(int(first[1]) // 1024, any(map(_caps, users.glob("*/.wslconfig"))))
    except (OSError, ValueError, IndexError):
        return None


def _caps(path: Path) -> bool:
    try:
        return _CAP.search(path.read_text(errors="replace")[:65536]) is not None
    except OSError:
        return False
