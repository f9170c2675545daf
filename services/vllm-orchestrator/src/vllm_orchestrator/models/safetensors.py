"""The weights of a model folder's safetensors files, from their headers alone.

Format: https://github.com/huggingface/safetensors#format. Anything a hostile or broken download could claim
is refused: headers longer than the file, tensors that overlap or lie outside, shapes that are not their
bytes, an index that names files elsewhere.
"""

import json
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from vllm_orchestrator.models.profile import ProfileError

MAX_HEADER_BYTES = 100 << 20
MAX_INDEX_BYTES = 64 << 20
MAX_FILES = 4096
INDEX = "model.safetensors.index.json"
_ITEM_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
}  # fmt: skip
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class StoredWeights:
    """Exact bytes of all tensors, and the float type that most of them have (None when they have none)."""

    total_bytes: int = 0
    dtype: str | None = None


def stored_weights(folder: Path) -> StoredWeights:
    """What the safetensors files of `folder` hold; nothing when there are none.

    The index's `total_size` can be absent or wrong, so the headers are read. Raises ProfileError for a header
    that is truncated, too long, or points outside its file, and for an index that names a file that is not
    there.
    """
    found: Counter[str] = Counter()
    for file in weight_files(folder):
        found += _tensor_bytes(file)
    floats = [(found[stored], name) for stored, name in _DTYPES.items() if found[stored]]
    return StoredWeights(found.total(), max(floats)[1] if floats else None)


def weight_bytes_of(folder: Path) -> int:
    """The exact sum of tensor bytes over `folder`/*.safetensors; 0 when there are none."""
    return stored_weights(folder).total_bytes


def weight_files(folder: Path) -> list[Path]:
    """The files an engine loads: those of the index, else all but a duplicate `consolidated`."""
    index = folder / INDEX
    if index.is_file():
        return [_shard(folder, name) for name in _indexed(index)]
    files = sorted(folder.glob("*.safetensors"))[:MAX_FILES]
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _indexed(index: Path) -> list[str]:
    if index.stat().st_size > MAX_INDEX_BYTES:
        raise ProfileError(f"{INDEX} is larger than {MAX_INDEX_BYTES >> 20} MiB")
    try:
        found = json.loads(index.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{INDEX} is not JSON") from error
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict) or not shards:
        raise ProfileError(f"{INDEX} has no weight_map")
    names = set(map(str, shards.values()))
    if len(names) > MAX_FILES:
        raise ProfileError(f"{INDEX} names {len(names)} files; {MAX_FILES} are the most")
    return sorted(names)


def _shard(folder: Path, name: str) -> Path:
    if name != Path(name).name or not name.endswith(".safetensors") or not name.isprintable() or "\\" in name:
        raise ProfileError(f"{INDEX} names {name[:100]!r}, which is not a .safetensors file of the folder")
    if not (folder / name).is_file():
        raise ProfileError(f"{name}, which {INDEX} names, is missing: the download is not complete")
    return folder / name


def _tensor_bytes(path: Path) -> Counter[str]:
    """Bytes by stored dtype."""
    size = path.stat().st_size
    header, start = _header(path, size)
    spans = sorted(_span(path, entry) for name, entry in header.items() if name != "__metadata__")
    found: Counter[str] = Counter()
    end = 0
    for first, stop, dtype in spans:
        if first < end or stop > size - start:
            raise ProfileError(f"{path.name} has tensors that overlap or lie outside the file")
        end = stop
        found[dtype] += stop - first
    return found


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The header and where the data begins."""
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8:
            raise ProfileError(f"{path.name} is truncated: no header length")
        (length,) = struct.unpack("<Q", head)
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise ProfileError(f"{path.name} claims a header of {length} bytes; the file has {size}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise ProfileError(f"{path.name} has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise ProfileError(f"{path.name} has a header that is not an object")
    return header, 8 + length


def _span(path: Path, entry: object) -> tuple[int, int, str]:
    entry = entry if isinstance(entry, dict) else {}
    offsets, dtype, shape = entry.get("data_offsets"), str(entry.get("dtype", "")), entry.get("shape")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ProfileError(f"{path.name} has a tensor without valid data_offsets")
    if dtype in _ITEM_BITS and shape is not None:
        if not _whole_numbers(shape) or len(shape) > 16:
            raise ProfileError(f"{path.name} has a tensor without a valid shape")
        if prod(shape) * _ITEM_BITS[dtype] != 8 * (offsets[1] - offsets[0]):
            raise ProfileError(f"{path.name} has a tensor whose shape is not its number of bytes")
    return offsets[0], offsets[1], dtype


def _whole_numbers(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 for value in values
    )
