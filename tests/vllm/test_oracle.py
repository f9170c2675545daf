"""Real vLLM judges the planner: what it allows starts, what it refuses is refused, KV tokens agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.vllm.engine import try_serving
from vllm_orchestrator.models.config_json import profile_of_config
from vllm_orchestrator.planning.feasibility import why_not
from vllm_orchestrator.planning.memory import kv_bytes_per_token, stage_layers

pytestmark = pytest.mark.timeout(600)

GIB = 1 << 30
BLOCK = 128  # tokens of a KV block on the CPU

_LLAMA = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "intermediate_size": 256,
    "vocab_size": 512,
    "max_position_embeddings": 2048,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "odd": {**_LLAMA, "num_hidden_layers": 3, "vocab_size": 515, "intermediate_size": 254},
    "threes": {
        **_LLAMA,
        "hidden_size": 192,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "vocab_size": 515,
        "intermediate_size": 258,
    },
    "wide": {
        **_LLAMA,
        "hidden_size": 192,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "vocab_size": 515,
        "intermediate_size": 256,
    },
    "tied": {**_LLAMA, "model_type": "qwen2", "tie_word_embeddings": True},
    "experts": {
        **_LLAMA,
        "model_type": "qwen3_moe",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    },
}
LAYOUTS = [
    ("llama", 1, 1),
    ("llama", 2, 1),
    ("llama", 1, 2),
    ("llama", 3, 1),
    ("llama", 4, 1),
    ("odd", 2, 1),
    ("odd", 1, 2),
    ("odd", 1, 4),
    ("threes", 2, 1),
    ("threes", 3, 1),
    ("wide", 3, 1),
    ("tied", 2, 1),
    ("tied", 1, 2),
    ("experts", 1, 1),
    ("experts", 2, 1),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout[0]}-tp{layout[1]}-pp{layout[2]}")
def test_planner_and_engine_agree(
    layout: tuple[str, int, int],
    vllm_binary: Path,
    tiny_model: Callable[[str, dict[str, Any]], Path],
    tmp_path: Path,
) -> None:
    shape, tp, pp = layout
    folder = tiny_model(shape, SHAPES[shape])
    profile = profile_of_config(SHAPES[shape], shape, source="test")
    reason = why_not(profile, tp, pp)
    words = ["--max-model-len", "1024", "--tensor-parallel-size", str(tp)]
    words += ["--pipeline-parallel-size", str(pp)]
    if pp == 1:
        words += ["--enforce-eager"]  # vLLM 0.32's CPU pipeline stages fail at the first request with it
    verdict = try_serving(vllm_binary, folder, words, tmp_path / "engine.log")
    layers = max(stage_layers(profile.layers, pp)) if reason is None else 0
    tokens = _tokens(kv_bytes_per_token(profile, tp, layers)) if reason is None else None
    print(
        f"\n| {shape} | {tp} | {pp} | {reason or 'starts'} | {verdict.reason or 'started'} |"
        f" {tokens or ''} | {verdict.kv_tokens or ''} | {verdict.seconds:.0f} s |"
    )
    assert verdict.started == (reason is None), (reason, verdict)
    if reason is None:
        assert verdict.kv_tokens == tokens


def _tokens(bytes_per_token: int) -> int:
    """Tokens of 1 GiB per rank, in whole blocks."""
    return GIB // bytes_per_token // BLOCK * BLOCK
