"""Every parser of outside bytes: anything goes in, a value or its own refusal comes out."""

import asyncio
import io
import json
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmark_runner.generator.http import BrokenError, Connection
from benchmark_runner.sse import Events, GarbageError
from compute_common import wire_json
from compute_common.problems import Problem
from compute_common.schemas.node import NodeDocument
from compute_common.schemas.node_shapes import nest
from compute_node.job import WorkError
from compute_node.stream import fold_stream
from resource_detector.findings import Notes
from resource_detector.sources.nvidia import NvmlReader, SystemRam
from resource_detector.sources.nvml import text_of
from tests.support.wild import fuzzed
from tests.unit.benchmark_runner.test_http import CHUNKED, Wire
from tests.unit.resource_detector.nvml_script import Card, ScriptedNvml
from tests.unit.vllm_orchestrator.test_gguf import LLAMA as GGUF_LLAMA
from tests.unit.vllm_orchestrator.test_gguf import gguf
from tests.unit.vllm_orchestrator.test_models import LLAMA
from vllm_orchestrator.downloads.listing import remote_file
from vllm_orchestrator.engines.activity import activity_of
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.gguf import profile_of_header
from vllm_orchestrator.models.profile import ProfileError
from vllm_orchestrator.models.resolve import ModelFolder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FLAT = [
    *sorted(NodeDocument.model_fields),
    "cpu_cores", "memory_mb", "memory_gb", "gpu_count", "gpu_vram_mb", "gpu_vram_gb", "gpu_models",
    "total_gpu_vram_mb", "available_vram_mb", "is_online", "last_heartbeat", "port", "ipv4",
    "bandwidth_mbps",
]  # fmt: skip


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """`whole` with some bytes changed, cut or put in."""
    change = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.binary(max_size=12))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        data = whole
        for at, drop, put in changes:
            data = data[:at] + put + data[at + drop :]
        return data

    return st.lists(change, max_size=6).map(apply)


@fuzzed(400)
@given(st.binary(max_size=400) | mutated(b'{"node_id":"a","gpus":[{"vram_gb":24}],"cpu":{"cores":8}}'))
def test_json_from_the_wire(data: bytes) -> None:
    with suppress(ValueError):
        wire_json.dump(wire_json.parse(data))


@fuzzed(600)
@given(st.dictionaries(st.sampled_from(FLAT), JSON, max_size=10))
def test_node_documents(fields: dict[str, Any]) -> None:
    with suppress(ValidationError):
        document = NodeDocument.model_validate(nest({"node_id": "a", "hostname": "b", **fields}))
        wire_json.dump(document)


@fuzzed(600)
@given(st.dictionaries(st.sampled_from([*LLAMA, "quantization_config", "text_config", "rope_scaling"]), JSON))
def test_configurations_of_models(fields: dict[str, Any]) -> None:
    with suppress(ProfileError):
        profile_of_config({**LLAMA, **fields}, "m", source="test")


@fuzzed(150)
@given(config=mutated(json.dumps(LLAMA).encode()), header=JSON, noise=st.binary(max_size=64))
def test_model_folders(tmp_path: Path, config: bytes, header: object, noise: bytes) -> None:
    folder = tmp_path / "m"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(config)
    text = json.dumps({"w": header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + noise)
    with suppress(ProfileError, Problem):
        ModelFolder(tmp_path).resolve("m")
    (folder / "model.safetensors").write_bytes(noise)
    with suppress(ProfileError, Problem):
        ModelFolder(tmp_path).resolve("m")


@fuzzed(600)
@given(mutated(gguf(*GGUF_LLAMA)))
def test_gguf_headers(data: bytes) -> None:
    with suppress(ProfileError):
        profile_of_header(io.BytesIO(data), len(data), "m", title="m.gguf")


STREAM = b'data: {"choices":[{"delta":{"content":"x"}}],"usage":{"completion_tokens":3}}\n\ndata: [DONE]\n\n'


@fuzzed(500)
@given(st.lists(mutated(STREAM), max_size=4))
def test_streams_that_a_benchmark_measures(parts: list[bytes]) -> None:
    events = Events()
    with suppress(GarbageError):
        for part in parts:
            events.feed(part)


@fuzzed(300)
@given(st.lists(mutated(STREAM), max_size=4))
async def test_streams_that_a_worker_folds(parts: list[bytes]) -> None:
    async def lines() -> AsyncIterator[str]:
        for line in b"".join(parts).decode("utf-8", "replace").split("\n"):
            yield line

    with suppress(WorkError):
        answer = await fold_stream(lines(), lambda: 1.0)
        wire_json.dump(answer)


@fuzzed(300)
@given(st.lists(mutated(CHUNKED), max_size=3))
async def test_http_answers_that_a_benchmark_reads(parts: list[bytes]) -> None:
    connection = Connection()
    connection.connection_made(Wire())
    answer = connection.send(b"GET", lambda _data, _now: False)
    for part in parts:
        connection.data_received(part)
        await asyncio.sleep(0)
    connection.connection_lost(None)
    with suppress(BrokenError):
        assert isinstance(await asyncio.wait_for(answer, 1), int)


@fuzzed(300)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("utf-8", "replace")))
def test_metrics_of_engines(text: str) -> None:
    activity_of(text + '\nvllm:num_requests_running{m="x"} ' + text)


@fuzzed(300)
@given(JSON, JSON, JSON)
def test_listings_of_models(path: object, size: object, sha256: object) -> None:
    with suppress(Problem):
        file = remote_file(path, size, sha256)
        assert ".." not in file.path.split("/")
        assert not file.path.startswith("/")


@fuzzed(200)
@given(st.binary(max_size=100) | st.text(max_size=300))
def test_strings_of_nvml(name: bytes | str) -> None:
    """A driver's strings are bytes of any kind; the document made of them goes over the wire."""
    text = text_of(name)
    found = NvmlReader(ScriptedNvml([Card(text or "", 24_000)])).read(Notes(), SystemRam(100, 100))
    assert len(found.gpus) == (text is not None)  # without a name it is left out, with a warning
    wire_json.dump([gpu.name for gpu in found.gpus])
