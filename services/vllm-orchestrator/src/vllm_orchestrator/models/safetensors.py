"""The bytes of a model folder's safetensors files, from their headers alone."""

import json
import struct
from pathlib import Path

from vllm_orchestrator.models.profile import ProfileError

MAX_HEADER_BYTES = 100 << 20
MAX_FILES = 4096


def weight_bytes_of(folder: Path) -> int:
    """The exact sum of tensor bytes over `folder`/*.safetensors; 0 when there are none.

    The index's `total_size` can be absent or wrong, so the headers are read. Raises ProfileError for a header
    that is truncated, too long, or points outside its file.
    """
    files = sorted(folder.glob("*.safetensors"))[:MAX_FILES]
    whole = [file for file in files if not file.name.startswith("consolidated")]
    return sum(_tensor_bytes(file) for file in whole or files)


def _tensor_bytes(path: Path) -> int:
    size = path.stat().st_size
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
    spans = sorted(_span(path, entry) for name, entry in header.items() if name != "__metadata__")
    total = end = 0
    for start, stop in spans:
        if start < end or stop > size - 8 - length:
            raise ProfileError(f"{path.name} has tensors that overlap or lie outside the file")
        end = stop
        total += stop - start
    return total


def _span(path: Path, entry: object) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(isinstance(offset, int) for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise ProfileError(f"{path.name} has a tensor without valid data_offsets")
    return offsets[0], offsets[1]
