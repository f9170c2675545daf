"""The models whose files are whole on this host, by their ids."""

import json
from collections.abc import Iterator
from pathlib import Path

from vllm_orchestrator.downloads.listing import check_repo

MAX_LISTED = 1000
PARTIAL = ".partial"


class LocalModels:
    """`<root>/<org>/<name>` as pulled, or `<root>/<name>` as people put them there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def home(self, name: str) -> Path:
        """Where a pulled model lies."""
        return self.root / check_repo(name)

    def find(self, name: str) -> Path | None:
        """The folder of a whole model."""
        wanted = (self.home(name), self.root / name.rpartition("/")[2])
        return next((path for path in wanted if is_whole(path) and self._is_inside(path)), None)

    def names(self) -> list[str]:
        """Every whole model, as `org/name` or as its folder is called."""
        found: list[str] = []
        for pattern in ("*", "*/*"):
            for path in sorted(self.root.glob(pattern)) if self.root.is_dir() else ():
                name = path.relative_to(self.root).as_posix()
                if len(found) < MAX_LISTED and not name.startswith(".") and is_whole(path):
                    found.append(name)
        return found

    def files(self, folder: Path) -> dict[str, Path]:
        """Relative name → file, of a model's folder: nothing hidden, nothing that leads out of the root."""
        found = {}
        for path in _walk(folder):
            if path.is_file() and self._is_inside(path):
                found[path.relative_to(folder).as_posix()] = path
        return found

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())


def is_whole(folder: Path) -> bool:
    """Whether a folder has weights, and all that its index names."""
    try:
        if not folder.is_dir():
            return False
        if any(folder.glob("*.gguf")):
            return True
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            return all("/" not in str(name) and (folder / str(name)).is_file() for name in names)
        return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _walk(folder: Path) -> Iterator[Path]:
    for pattern in ("*", "*/*", "*/*/*"):
        for path in folder.glob(pattern):
            if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                yield path
