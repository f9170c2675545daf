"""Where a model grows until it is whole: `<root>/.partial/models/<org>--<name>`, then one rename."""

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from compute_common.problems import Problem, conflict
from vllm_orchestrator.downloads.listing import Listing, RemoteFile, folder_of
from vllm_orchestrator.downloads.local import PARTIAL

MANIFEST = ".manifest.json"
SPARE_BYTES = 1 << 30  # what a disk is never filled beyond
HASH_BYTES = 4 << 20


class Staging:
    """One model's unfinished files. A file is `NAME.part` until it has its size and its hash."""

    def __init__(self, root: Path, model_name: str) -> None:
        self._root = root
        self.folder = root / PARTIAL / "models" / folder_of(model_name)

    def open(self, listing: Listing) -> None:
        """Keep what an earlier try left of the same files, drop the rest. Problem 409 on a read-only root."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = self._manifest()
            now = {"origin": listing.origin, "revision": listing.revision}
            if before != now:
                self._drop_unsure(listing)
            (self.folder / MANIFEST).write_text(json.dumps(now))
        except OSError as error:
            raise read_only(self._root, error) from error

    def check_room(self, listing: Listing) -> None:
        """Problem 409 when the disk cannot take what is missing and stay usable."""
        missing = listing.total_bytes - sum(self.have(file) for file in listing.files)
        free = shutil.disk_usage(self.folder).free
        if missing > max(0, free - SPARE_BYTES):
            raise conflict(
                "disk-too-small",
                f"{listing.model_name} needs {_gib(missing)} more in {self._root}; {_gib(free)} are free"
                f" and {_gib(SPARE_BYTES)} of it stay free: make room, or move VLLM_MODEL_PATH",
                needed_bytes=missing,
                free_bytes=free,
            )

    def have(self, file: RemoteFile) -> int:
        """Bytes of `file` that are here."""
        for path in (self.folder / file.path, self.part(file)):
            with suppress(OSError):
                return min(path.stat().st_size, file.size)
        return 0

    def is_done(self, file: RemoteFile) -> bool:
        path = self.folder / file.path
        return path.is_file() and path.stat().st_size == file.size

    def part(self, file: RemoteFile) -> Path:
        return self.folder / f"{file.path}.part"

    def complete(self, file: RemoteFile) -> bool:
        """Give a whole part its name; False, and the part is gone, when it is not what was promised."""
        part = self.part(file)
        right = part.stat().st_size == file.size and file.sha256 in (None, _sha256(part, file))
        if not right:
            part.unlink()
            return False
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(self.folder / file.path)
        return True

    def publish(self, home: Path, listing: Listing) -> None:
        """Move the whole model to its place, in one step. Problem 409 when something else stands there."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        known = {file.path for file in listing.files}
        for path in list(self.folder.rglob("*")):
            if path.is_file() and path.relative_to(self.folder).as_posix() not in known:
                path.unlink()
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder.replace(home)
        except OSError as error:
            raise conflict(
                "folder-in-the-way", f"{home} exists and is not a whole model: move it away, then pull again"
            ) from error

    def _manifest(self) -> object:
        try:
            return json.loads((self.folder / MANIFEST).read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def _drop_unsure(self, listing: Listing) -> None:
        """Of another origin or revision only what a hash will prove may stay."""
        proven = {file.path for file in listing.files if file.sha256}
        for path in list(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not (name.endswith(".part") and name.removesuffix(".part") in proven):
                path.unlink()


def read_only(root: Path, error: OSError) -> Problem:
    return conflict(
        "models-read-only",
        f"models cannot be written to {root} ({error.strerror}): mount VLLM_MODEL_PATH read-write, or put the"
        " files there yourself",
    )


def _sha256(path: Path, file: RemoteFile) -> str | None:
    if file.sha256 is None:
        return None
    digest = hashlib.sha256()
    with path.open("rb") as whole:
        while block := whole.read(HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
