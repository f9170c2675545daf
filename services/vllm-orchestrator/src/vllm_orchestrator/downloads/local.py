"""The models whose files are whole on this host, by their ids."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from vllm_orchestrator.downloads.listing import check_repo

MAX_LISTED = 1000
PARTIAL = ".partial"


class LocalModels:
    """`<root>/<org>/<name>` as pulled, or `<root>/<name>` or `<name>.gguf` as people put them there."""

    def __init__(self, root: Path, beside: Mapping[str, Path] | None = None) -> None:
        self.root = root
        self._beside = dict(beside or {})  # single files that lie elsewhere, by their model's id

    def home(self, name: str) -> Path:
        """Where a pulled model lies."""
        return self.root / check_repo(name)

    def find(self, name: str) -> Path | None:
        """The folder of a whole model, or its one file."""
        if name in self._beside:
            return self._beside[name]
        last = name.rpartition("/")[2]
        wanted = (self.home(name), self.root / last, self.root / f"{last}.gguf")
        return next((path for path in wanted if is_whole(path) and self._is_inside(path)), None)

    def names(self) -> list[str]:
        """Every whole model, as `org/name` or as its folder or file is called."""
        loose = sorted(self.root.glob("*.gguf")) if self.root.is_dir() else []
        found = [path.stem for path in loose[:MAX_LISTED] if path.is_file()]
        for pattern in ("*", "*/*"):
            for path in sorted(self.root.glob(pattern)) if self.root.is_dir() else ():
                name = path.relative_to(self.root).as_posix()
                if len(found) < MAX_LISTED and not name.startswith(".") and path.is_dir() and is_whole(path):
                    found.append(name)
        return [*found, *self._beside]

    def files(self, folder: Path) -> dict[str, Path]:
        """Relative name → file, of a model: nothing hidden, nothing that leads out of the root."""
        if folder.is_file():
            ours = self._is_inside(folder) or folder in self._beside.values()
            return {folder.name: folder} if ours else {}
        found = {}
        for path in _walk(folder):
            if path.is_file() and self._is_inside(path):
                found[path.relative_to(folder).as_posix()] = path
        return found

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())


def is_whole(folder: Path) -> bool:
    """Whether a folder has weights, and all that its index names; a GGUF file is whole by itself."""
    try:
        if not folder.is_dir():
            return folder.is_file() and folder.suffix.lower() == ".gguf"
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
