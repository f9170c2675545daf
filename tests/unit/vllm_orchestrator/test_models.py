"""Profiles from configurations and folders; names and paths resolved, hostile ones refused."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from compute_common.problems import Problem
from vllm_orchestrator.models.catalogue import catalogue, lookup
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.models.profile import ProfileError
from vllm_orchestrator.models.resolve import ModelFolder
from vllm_orchestrator.models.safetensors import weight_bytes_of

LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 256,
    "torch_dtype": "float16",
}  # fmt: skip


def profile(config: dict[str, Any]) -> Any:
    return profile_of_config(config, "m", source="test")


def safetensors(path: Path, header: object, data: int = 64) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


def folder(path: Path, config: dict[str, Any] = LLAMA) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    tensors = {"w": {"dtype": "F16", "shape": [4, 4], "data_offsets": [0, 32]}, "__metadata__": {}}
    safetensors(path / "model.safetensors", tensors, 32)
    return path


def test_both_spellings() -> None:
    old, new = profile(LLAMA), profile({**LLAMA, "torch_dtype": None, "dtype": "float16"})
    assert old == new
    assert (old.dtype, old.head_dim, old.kv_heads) == ("float16", 16, 2)


def test_nested_text_and_vision() -> None:
    nested = profile({"text_config": LLAMA, "vision_config": {"num_heads": 16}})
    assert (nested.layers, nested.vision_heads) == (2, 16)


def test_quantisation_and_experts() -> None:
    config = {
        **LLAMA, "num_experts": 8, "moe_intermediate_size": 32,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    }  # fmt: skip
    found = profile(config)
    assert (found.experts, found.moe_intermediate, found.quantization, found.weight_block) == (
        8,
        32,
        "fp8",
        128,
    )


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [None, -1, "many", 1 << 60, True, [1]])
def test_a_missing_or_absurd_shape_is_named(key: str, value: object) -> None:
    with pytest.raises(ProfileError, match=key):
        profile({**LLAMA, key: value})


def test_catalogue_aliases() -> None:
    for name in ("meta-llama/Llama-3-70B", "llama-3-70b", "META-LLAMA/meta-llama-3-70b-instruct"):
        found = lookup(name)
        assert found is not None
        assert found.name == "meta-llama/Llama-3-70B"
    for name in ("smollm2", "smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        found = lookup(name)
        assert found is not None
        assert found.layers == 30


def test_weights_are_summed_from_headers(tmp_path: Path) -> None:
    tensors = {
        "a": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [2, 4], "data_offsets": [16, 32]},
    }
    safetensors(tmp_path / "a.safetensors", tensors, 32)
    safetensors(tmp_path / "consolidated.safetensors", tensors, 32)
    assert weight_bytes_of(tmp_path) == 32


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": [0, 1 << 40]},
        {"data_offsets": [-4, 4]},
        {"data_offsets": [8, 4]},
        {"data_offsets": "x"},
        {},
        7,
    ],
)
def test_hostile_tensors_are_refused(tmp_path: Path, entry: object) -> None:
    safetensors(tmp_path / "m.safetensors", {"w": entry})
    with pytest.raises(ProfileError):
        weight_bytes_of(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 4) + b"nope",
        struct.pack("<Q", 2) + b"[]",
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(ProfileError):
        weight_bytes_of(tmp_path)


def test_overlapping_tensors_are_refused(tmp_path: Path) -> None:
    header = {"a": {"data_offsets": [0, 16]}, "b": {"data_offsets": [8, 24]}}
    safetensors(tmp_path / "m.safetensors", header)
    with pytest.raises(ProfileError, match="overlap"):
        weight_bytes_of(tmp_path)


def index(path: Path, weight_map: object) -> None:
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_an_index_says_which_files_count(tmp_path: Path) -> None:
    for name in ("a", "b", "left-over"):
        safetensors(
            tmp_path / f"{name}.safetensors", {"w": {"dtype": "F16", "shape": [16], "data_offsets": [0, 32]}}
        )
    index(tmp_path, {"x": "a.safetensors", "y": "b.safetensors", "z": "b.safetensors"})
    assert weight_bytes_of(tmp_path) == 64


@pytest.mark.parametrize(
    "name",
    [
        "../a.safetensors",
        "/etc/passwd",
        "a\\b.safetensors",
        "x/y.safetensors",
        "gone.safetensors",
        "a.bin",
        "",
    ],
)
def test_an_index_that_names_other_files_is_refused(tmp_path: Path, name: str) -> None:
    safetensors(tmp_path / "a.safetensors", {})
    index(tmp_path, {"x": name})
    with pytest.raises(ProfileError):
        weight_bytes_of(tmp_path)


@pytest.mark.parametrize("weight_map", [None, [], {}, "x", {str(n): f"{n}.safetensors" for n in range(5000)}])
def test_an_index_without_a_sane_map_is_refused(tmp_path: Path, weight_map: object) -> None:
    index(tmp_path, weight_map)
    with pytest.raises(ProfileError, match="index"):
        weight_bytes_of(tmp_path)


@pytest.mark.parametrize("shape", [[8], [1 << 61, 1 << 61], [-4, -4], ["x"], [True] * 16])
def test_a_shape_that_is_not_its_bytes_is_refused(tmp_path: Path, shape: object) -> None:
    header = {"w": {"dtype": "F16", "shape": shape, "data_offsets": [0, 32]}}
    safetensors(tmp_path / "m.safetensors", header)
    with pytest.raises(ProfileError, match="shape"):
        weight_bytes_of(tmp_path)


def test_weights_tell_the_dtype_that_a_configuration_does_not(tmp_path: Path) -> None:
    silent = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    found = ModelFolder(folder(tmp_path / "m", silent).parent).resolve("m")
    assert found.any.dtype == "float16"


def test_four_bit_groups_of_every_spelling() -> None:
    awq = profile({**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}})
    scheme = {"num_bits": 4, "group_size": 128}
    packed = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": scheme}}}
    same = profile({**LLAMA, "quantization_config": packed})
    assert (awq.bits, awq.group_size) == (same.bits, same.group_size) == (4.125, 128)


def test_kv_cache_dtype_follows_the_checkpoint() -> None:
    scheme = {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert profile({**LLAMA, "quantization_config": scheme}).kv_cache_dtype == "fp8"
    modelopt = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}
    found = profile({**LLAMA, "quantization_config": modelopt})
    assert (found.quantization, found.kv_cache_dtype) == ("nvfp4", "fp8")


def test_linear_attention_has_no_kv_per_token() -> None:
    hybrid = {
        **LLAMA, "num_hidden_layers": 8, "full_attention_interval": 4, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }  # fmt: skip
    found = profile(hybrid)
    assert (found.linear_layers, found.attention_gate) == (6, True)


def test_the_catalogue_has_forty_models_and_unlike_names() -> None:
    names = [name.lower() for entry in catalogue() for name in (entry.name, *entry.aliases)]
    assert len(catalogue()) >= 40
    assert len(names) == len(set(names))


def test_found_by_last_path_part_ignoring_case(tmp_path: Path) -> None:
    folder(tmp_path / "My-Model")
    found = ModelFolder(tmp_path).resolve("somebody/my-model")
    assert found.vllm is not None
    assert (found.vllm.location, found.vllm.weight_bytes) == (str(tmp_path / "My-Model"), 32)


def test_a_folder_one_level_deeper(tmp_path: Path) -> None:
    folder(tmp_path / "org" / "model")
    assert ModelFolder(tmp_path).resolve("org/model").vllm is not None


def test_local_files_win_over_the_catalogue(tmp_path: Path) -> None:
    folder(tmp_path / "Llama-3-70B")
    found = ModelFolder(tmp_path).resolve("meta-llama/Llama-3-70B")
    assert found.vllm is not None
    assert found.vllm.layers == 2


@pytest.mark.parametrize("path", ["../outside", "/etc", "a/../../b", ".", "", "missing", "a\0b", "x" * 600])
def test_paths_outside_are_refused(tmp_path: Path, path: str) -> None:
    folder(tmp_path / "outside")
    root = tmp_path / "models"
    root.mkdir()
    with pytest.raises(Problem) as refused:
        ModelFolder(root).resolve("m", path)
    assert refused.value.status in (404, 422)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    folder(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(Problem, match="safetensors"):
        ModelFolder(tmp_path).resolve("m")
