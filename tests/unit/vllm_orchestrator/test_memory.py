"""Memory per rank against published totals and what real vLLM logged (VLLM.md A6, B2, B5)."""

from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vllm_orchestrator.shapes import known
from vllm_orchestrator.models.catalogue import catalogue
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.memory import (
    Workload,
    counted_parameters,
    fullest_rank,
    kv_bytes_per_token,
    pipeline,
    rank_weight_bytes,
    stage_layers,
)

EXACT = ["llama-3-8b", "llama-3-70b", "llama-3.1-405b", "qwen2.5-7b", "qwen2.5-32b", "qwen2.5-72b", "phi-4"]
WORK = Workload(8192, 256, 2048)


@pytest.mark.parametrize("name", EXACT)
def test_dense_models_are_counted_exactly(name: str) -> None:
    profile = known(name)
    assert counted_parameters(profile) == profile.parameters


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_every_entry_of_the_catalogue_is_close_to_its_published_size(profile: ModelProfile) -> None:
    assert isclose(counted_parameters(profile), profile.parameters, rel_tol=0.01)


@pytest.mark.parametrize(
    ("shape", "tp", "pp", "expected"),
    [((2, 2, 16), 1, 1, 256), ((4, 2, 32), 2, 1, 512), ((4, 2, 32), 4, 1, 512), ((4, 2, 32), 1, 2, 512)],
)
def test_kv_bytes_are_what_vllm_logged(shape: tuple[int, int, int], tp: int, pp: int, expected: int) -> None:
    layers, kv_heads, dim = shape
    profile = ModelProfile("t", layers, 4 * dim, 4, kv_heads, dim, 256, 512, 2048, "test")
    assert kv_bytes_per_token(profile, tp, max(stage_layers(layers, pp))) == expected


@pytest.mark.parametrize(
    ("layers", "stages", "split"),
    [(80, 3, (27, 27, 26)), (126, 4, (31, 32, 32, 31)), (64, 3, (21, 22, 21)), (4, 1, (4,))],
)
def test_layers_are_split_as_vllm_does(layers: int, stages: int, split: tuple[int, ...]) -> None:
    assert stage_layers(layers, stages) == split


def test_kv_per_token_of_the_table() -> None:
    assert kv_bytes_per_token(known("llama-3-70b"), 1, 80) == 320 * 1024
    assert kv_bytes_per_token(known("deepseek-v3"), 8, 61) == 70_272


def test_replicated_kv_heads_cost() -> None:
    sixteenth = fullest_rank(known("llama-3-70b"), 16, 1, WORK).weights
    assert isclose(sixteenth / 2**30, 8.37, rel_tol=0.005)


@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 8))
def test_ranks_together_hold_the_whole_model(tp: int, pp: int) -> None:
    profile = known("llama-3-70b")
    stages = pipeline(stage_layers(profile.layers, pp))
    total = sum(tp * int(rank_weight_bytes(profile, tp, stage)) for stage in stages)
    norms = tp * (2 * profile.layers + 1) * profile.hidden * 2  # replicated on every rank
    assert 0 <= total - 2 * profile.parameters <= norms


def test_sliding_windows_cost_less() -> None:
    windowed = fullest_rank(known("gemma-3-27b"), 1, 1, Workload(131_072, 256, 2048)).request
    whole = fullest_rank(known("gemma-3-27b", windowed_layers=0), 1, 1, Workload(131_072, 256, 2048)).request
    assert windowed < whole / 4
