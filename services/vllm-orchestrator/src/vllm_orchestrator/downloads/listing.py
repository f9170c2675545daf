"""What a model consists of elsewhere, and which of it is wanted here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compute_common.ids import is_identifier
from compute_common.problems import Problem, invalid

MAX_FILES = 10_000
MAX_FILE_BYTES = 1 << 44
_REPO = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")
_SIDE_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".md")
_OTHER_FORMATS = ("original", "onnx", "openvino", "coreml", "metal", "mlx")
_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf\Z)", re.IGNORECASE)
# of the quantised files of one GGUF repository, the one a person would take; then the smallest
_PREFERRED_GGUF = ("q4_k_m", "q4_0", "q4_1", "q5_k_m", "q8_0", "f16")


@dataclass(frozen=True)
class RemoteFile:
    """`sha256` where the other side knows it, which is for every large file of the Hub."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """The files of one revision of a model; `origin` says whose word that is."""

    model_name: str
    origin: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def check_repo(name: str) -> str:
    """`name` when it can be a model of the Hub. Problem 422 otherwise."""
    legal = (
        _REPO.match(name) and "--" not in name and ".." not in name and not name.endswith((".git", ".", "-"))
    )
    if not legal or not is_identifier(folder_of(name)):
        raise invalid(
            f"'{name}' is no id of the Hub: it reads like 'meta-llama/Llama-3.1-8B-Instruct'",
            cause="invalid-model",
        )
    return name


def folder_of(name: str) -> str:
    """`org/name` as one word: no id of the Hub holds `--`."""
    return name.replace("/", "--")


def remote_file(path: object, size: object, sha256: object = None) -> RemoteFile:
    """A file as a stranger describes it. Problem 502 when its name would escape or its size is none."""
    if not isinstance(path, str) or not _is_harmless(path):
        raise _hostile(f"a file named {str(path)[:80]!r}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_BYTES:
        raise _hostile(f"a file of {str(size)[:40]} bytes")
    known = isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256) is not None
    return RemoteFile(path, size, str(sha256) if known else None)


def wanted(model_name: str, files: Sequence[RemoteFile], quantization: str | None) -> tuple[RemoteFile, ...]:
    """The weights in one format and the small files beside them. Problem 422 when there is no such format."""
    weights = _safetensors(files) or _gguf(model_name, files, quantization)
    if not weights:
        raise invalid(
            f"{model_name} has neither safetensors nor GGUF weights; convert it, or name another",
            cause="no-usable-weights",
        )
    beside = [file for file in files if _is_side_file(file.path)]
    return tuple(sorted({*weights, *beside}, key=lambda file: (file.size, file.path)))


def _safetensors(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    found = [file for file in files if file.path.endswith(".safetensors") and "/" not in file.path]
    sharded = [file for file in found if not file.path.startswith("consolidated")]
    return sharded or found  # Mistral ships the same weights a second time as consolidated*.safetensors


def _gguf(model_name: str, files: Iterable[RemoteFile], quantization: str | None) -> list[RemoteFile]:
    found: dict[str, list[RemoteFile]] = {}
    for file in files:
        if file.path.lower().endswith(".gguf") and "mmproj" not in file.path.lower():
            found.setdefault(_SHARD.sub("", file.path).lower(), []).append(file)
    if not found:
        return []
    asked = (quantization.lower(),) if quantization else _PREFERRED_GGUF
    for word in asked:
        for name, group in sorted(found.items()):
            if _has_word(name, word):
                return group
    if quantization:
        known = ", ".join(sorted(found))[:500]
        raise invalid(
            f"{model_name} has no {quantization} file; it has {known}", cause="no-such-quantization"
        )
    return min(found.values(), key=lambda group: sum(file.size for file in group))


def _has_word(name: str, word: str) -> bool:
    return re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9_])", name) is not None


def _is_side_file(path: str) -> bool:
    first = path.split("/", 1)[0]
    return path.endswith(_SIDE_FILES) and not (first in _OTHER_FORMATS and "/" in path)


def _is_harmless(path: str) -> bool:
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and len(path) <= 512 and len(parts) <= 8
    return plain and all(part and part not in (".", "..") and len(part) <= 200 for part in parts)


def _hostile(what: str) -> Problem:
    return Problem(502, "hostile-listing", f"the model's listing names {what}; nothing of it was fetched")
