"""A bounded reader of GGUF headers: the shape of the model, never its tensors.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

import glob
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO

from vllm_orchestrator.models.profile import ModelProfile, ProfileError

MAX_KEYS = 4096
MAX_STRING = 4 << 20
MAX_ITEMS = 4 << 20
MAX_HEADER_BYTES = 256 << 20
MAX_DEPTH = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FIRST_SHARD = re.compile(r"-00001-of-(\d{5})\.gguf\Z")
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 15: "Q4_K_M", 17: "Q5_K_M", 18: "Q6_K"}


class TruncatedError(ProfileError):
    """There are fewer bytes than the header goes on for."""


class _Array:
    """A skipped array: only its length is kept."""

    def __init__(self, length: int) -> None:
        self.length = length


class _Reader:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._limit = min(size, MAX_HEADER_BYTES)
        self._read = 0

    def take(self, count: int) -> bytes:
        if count > self._limit - self._read:
            raise ProfileError("the GGUF header is truncated or larger than it may be")
        data = self._file.read(count)
        self._read += count
        if len(data) != count:
            raise TruncatedError("the GGUF header is truncated")
        return data

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        length = self.number("Q")
        if length > MAX_STRING:
            raise ProfileError(f"a GGUF string of {length} bytes is refused")
        return self.take(length).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY and depth < MAX_DEPTH:
            return self._array(depth)
        raise ProfileError(f"the GGUF header has a value of unknown type {kind}")

    def _array(self, depth: int) -> _Array:
        kind, length = self.number("I"), self.number("Q")
        if length > MAX_ITEMS:
            raise ProfileError(f"a GGUF array of {length} items is refused")
        if kind in _SCALARS:
            self.take(length * struct.calcsize(f"<{_SCALARS[kind]}"))
        else:
            for _ in range(length):
                self.value(kind, depth + 1)
        return _Array(length)


def read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """The key-values of a GGUF file of `size` bytes. ProfileError for anything hostile."""
    reader = _Reader(file, size)
    if reader.take(4) != b"GGUF":
        raise ProfileError("not a GGUF file")
    version = reader.number("I")
    if version not in (2, 3):
        raise ProfileError(f"GGUF version {version} is not supported (2 and 3 are)")
    reader.number("Q")  # tensors; their table is not read
    count = reader.number("Q")
    if count > MAX_KEYS:
        raise ProfileError(f"a GGUF header with {count} keys is refused")
    header: dict[str, Any] = {}
    for _ in range(count):
        key = reader.string()
        header[key] = reader.value(reader.number("I"))
    return header


def profile_of_gguf(path: Path, name: str, aliases: tuple[str, ...] = ()) -> ModelProfile:
    """The profile of a GGUF file, or of all shards of the first one; its weights are the bytes of the files.

    ProfileError when it has none.
    """
    size = sum(shard.stat().st_size for shard in _shards(path))
    with path.open("rb") as file:
        return profile_of_header(file, size, name, aliases, title=path.name, location=str(path))


def _shards(first: Path) -> list[Path]:
    """The files of one model, of which `first` has the header."""
    numbered = _FIRST_SHARD.search(first.name)
    if numbered is None:
        return [first]
    stem = glob.escape(first.name[: numbered.start()])
    return sorted(first.parent.glob(f"{stem}-?????-of-{numbered[1]}.gguf"))


def profile_of_header(
    file: BinaryIO, size: int, name: str, aliases: tuple[str, ...] = (), *, title: str, location: str = ""
) -> ModelProfile:
    """As `profile_of_gguf`, of a file of `size` bytes of which only the beginning is at hand."""
    header = read_header(file, size)
    arch = header.get("general.architecture")
    if not isinstance(arch, str):
        raise ProfileError("the GGUF header lacks general.architecture")

    def number(key: str, default: int | None = None) -> int:
        value = header.get(f"{arch}.{key}", default)
        value = value.length if isinstance(value, _Array) else value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1 << 31:
            raise ProfileError(f"the GGUF header lacks a sane {arch}.{key}")
        return value

    heads = number("attention.head_count")
    hidden = number("embedding_length")
    if not heads or not hidden:
        raise ProfileError("the GGUF header has no attention heads or no embedding")
    tokens = header.get("tokenizer.ggml.tokens")
    kv_heads = header.get(f"{arch}.attention.head_count_kv", heads)
    return ModelProfile(
        name=name,
        layers=max(1, number("block_count")),
        hidden=hidden,
        heads=heads,
        # one count per layer (hybrid models): the array is skipped, so the widest case is assumed
        kv_heads=kv_heads if isinstance(kv_heads, int) and 0 < kv_heads <= heads else heads,
        head_dim=number("attention.key_length", 0) or max(1, hidden // heads),
        intermediate=number("feed_forward_length", 4 * hidden) or 4 * hidden,
        vocab=number("vocab_size", tokens.length if isinstance(tokens, _Array) else 32_000),
        max_len=number("context_length", 2048) or 2048,
        source=f"GGUF header of {title}",
        location=location or name,
        gguf=True,
        quantization=_FILE_TYPES.get(header.get("general.file_type", -1), "gguf"),
        weight_bytes=size,
        experts=number("expert_count", 0),
        aliases=aliases,
    )
