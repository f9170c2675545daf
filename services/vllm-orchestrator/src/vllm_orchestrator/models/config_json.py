"""A Hugging Face `config.json`, in all its spellings, as a `ModelProfile`."""

from collections.abc import Mapping
from typing import Any

from vllm_orchestrator.models.config_fields import (
    KV_HEADS,
    MAX,
    Config,
    max_len,
    nested,
    number,
    stored_dtype,
)
from vllm_orchestrator.models.config_quantization import kv_cache_dtype, leaves_attention, quantization
from vllm_orchestrator.models.profile import ModelProfile

_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_k")
_INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_BIASED_QKV = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_vl_text", "qwen2_5_vl_text")
_BIAS_FLAGS = ("attention_bias", "qkv_bias", "add_qkv_bias", "use_bias")
_NORMED_QK = (
    "qwen3",
    "gemma3",
    "gemma4",
    "olmo2",
    "olmo3",
    "glm4_moe",
    "hunyuan",
    "minimax_m2",
    "qwen3_next",
)
_FOUR_NORMS = ("gemma2", "gemma3", "gemma4", "glm4")
_TWO_MATRICES = ("gpt2", "gpt_neox", "gptj", "phi", "falcon", "starcoder2", "bloom", "opt", "mpt", "nemotron")
_NO_PIPELINE = ("gpt_j", "bart", "t5", "whisper", "mllama")


def profile_of_config(
    config: Config, name: str, *, source: str, location: str = "", weight_bytes: int = 0
) -> ModelProfile:
    """The profile that `config` describes.

    Field names follow vLLM's own readers (VLLM.md B3): `text_config` when nested, `dtype` or
    `torch_dtype`, the first KV-head spelling present. Raises ProfileError naming the field
    that is missing or out of range.
    """
    text = nested(config)
    kind = _model_type(text) or _model_type(config)
    heads = number(text, ("num_attention_heads", "n_head", "n_heads", "num_heads"), MAX["heads"])
    hidden = number(text, ("hidden_size", "n_embd", "d_model"), MAX["hidden"])
    method, bits, group, block = quantization(config, text)
    vision = _vision(config)
    fields: dict[str, Any] = {
        "name": name,
        "layers": number(text, ("num_hidden_layers", "n_layer", "n_layers", "num_layers"), MAX["layers"]),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": _kv_heads(text, heads),
        "intermediate": number(text, _INNER, MAX["wide"], 0) or _widest_inner(text, hidden),
        "vocab": number(text, ("vocab_size", "padded_vocab_size"), MAX["vocab"]),
        "max_len": max_len(text),
        "source": source,
        "location": location or name,
        "dtype": stored_dtype(config, text),
        "tied": _tied(config, text, kind),
        "qkv_bias": kind in _BIASED_QKV or _flag(text, *_BIAS_FLAGS),
        "output_bias": _flag(text, "attention_bias", "use_bias") and not kind.startswith("glm"),
        "qk_norm": kind.startswith(_NORMED_QK) or _flag(text, "use_qk_norm", "qk_norm", "qk_layernorm"),
        "norms_per_layer": 4 if kind.startswith(_FOUR_NORMS) and kind != "glm4_moe" else 2,
        "gated": kind not in _TWO_MATRICES,
        "quantization": method,
        "bits": bits,
        "group_size": group,
        "weight_block": block,
        "plain_attention": leaves_attention(config, text),
        "generates": _generates(config),
        "kv_cache_dtype": kv_cache_dtype(config, text),
        "weight_bytes": weight_bytes,
        "vision_heads": number(vision, ("num_heads", "num_attention_heads"), MAX["heads"], 0),
        "supports_pipeline": not kind.startswith(_NO_PIPELINE),
    }
    for part in (_latent(text, hidden, heads), _experts(text, kind), _windows(text, kind), _linear(text)):
        fields |= part
    return ModelProfile(**fields)


def _model_type(text: Config) -> str:
    return str(text.get("model_type", ""))[:64].lower()


def _generates(config: Config) -> bool:
    """Embedding, classification and reward models sample nothing."""
    names = config.get("architectures")
    name = str(names[0]) if isinstance(names, list) and names else ""
    return not name.endswith(("ForSequenceClassification", "RewardModel", "ForTokenClassification", "Model"))


def _flag(text: Config, *names: str) -> bool:
    return any(text.get(name) is True for name in names)


def _tied(config: Config, text: Config, kind: str) -> bool:
    default = kind.startswith(("gemma", "gpt2", "command", "cohere"))
    found = config.get("tie_word_embeddings", text.get("tie_word_embeddings", default))
    return bool(found)


def _kv_heads(text: Config, heads: int) -> int:
    if text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        return number(text, KV_HEADS, MAX["heads"], 1)
    return number(text, KV_HEADS, MAX["heads"], heads)


def _widest_inner(text: Config, hidden: int) -> int:
    """Where the width has another name: OPT's and MPT's ratios, else four times the hidden size."""
    return hidden * number(text, ("expansion_ratio",), 64, 4)


def _latent(text: Config, hidden: int, heads: int) -> dict[str, Any]:
    rank = number(text, ("kv_lora_rank",), MAX["hidden"], 0)
    spelled = ("qk_nope_head_dim",) if rank else ("head_dim", "hidden_size_per_head", "kv_channels")
    return {
        "head_dim": number(text, spelled, 1 << 16, 0) or max(1, hidden // heads),
        "kv_lora_rank": rank,
        "q_lora_rank": number(text, ("q_lora_rank",), MAX["hidden"], 0) if rank else 0,
        "qk_rope_head_dim": number(text, ("qk_rope_head_dim",), 1 << 16, 0) if rank else 0,
        "v_head_dim": number(text, ("v_head_dim",), 1 << 16, 0) if rank else 0,
        "index_heads": number(text, ("index_n_heads",), MAX["heads"], 0) if rank else 0,
        "index_head_dim": number(text, ("index_head_dim",), 1 << 16, 0) if rank else 0,
    }


def _experts(text: Config, kind: str) -> dict[str, Any]:
    experts = number(text, _EXPERTS, 1 << 16, 0)
    if experts < 2:
        return {}
    inner = number(text, ("moe_intermediate_size", "expert_ffn_hidden_size", *_INNER), MAX["wide"], 0)
    shared = number(
        text, ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), MAX["wide"], 0
    )
    shared = shared or inner * number(text, ("n_shared_experts", "num_shared_experts"), 1024, 0)
    llama4 = kind.startswith("llama4")
    return {
        "experts": experts,
        "experts_per_token": number(text, _PER_TOKEN, experts, 1),
        "moe_intermediate": inner,
        "moe_bias": kind == "gpt_oss",
        "shared_intermediate": inner if llama4 else shared,
        "dense_layers": number(text, ("first_k_dense_replace", "moe_layer_start_index"), MAX["layers"], 0),
        "moe_every": number(text, ("interleave_moe_layer_step", "decoder_sparse_step"), MAX["layers"], 1),
        "dense_beside_experts": kind.startswith("gemma4"),
    }


def _windows(text: Config, kind: str) -> dict[str, Any]:
    """Layers that keep a window only, and the shape of those that do not where it differs."""
    if text.get("use_sliding_window") is False:
        return {}
    window = number(text, ("sliding_window", "sliding_window_size", "attention_chunk_size"), 1 << 28, 0)
    if not window:
        return {}
    layers = number(text, ("num_hidden_layers", "n_layer", "num_layers"), MAX["layers"])
    found: dict[str, Any] = {"sliding_window": window, "windowed_layers": _windowed(text, kind, layers)}
    full_dim = number(text, ("global_head_dim",), 1 << 16, 0)
    if full_dim:
        found["full_head_dim"] = full_dim
        found["full_kv_heads"] = number(text, ("num_global_key_value_heads", *KV_HEADS), MAX["heads"], 1)
    return found


def _windowed(text: Config, kind: str, layers: int) -> int:
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        return min(layers, sum(each in ("sliding_attention", "chunked_attention") for each in kinds))
    usual = 6 if kind.startswith("gemma3") else 2 if kind.startswith(("gemma2", "gpt_oss")) else 0
    pattern = number(text, ("sliding_window_pattern", "_sliding_window_pattern"), MAX["layers"], usual)
    return layers - layers // pattern if pattern else layers


def _linear(text: Config) -> dict[str, Any]:
    """Gated-delta-net layers (Qwen3-Next, Qwen3.5 and later)."""
    kinds = text.get("layer_types")
    layers = number(text, ("num_hidden_layers", "n_layer", "num_layers"), MAX["layers"])
    every = number(text, ("full_attention_interval",), MAX["layers"], 0)
    count = layers - layers // every if every else 0
    if isinstance(kinds, list):
        count = min(layers - 1, sum(kind == "linear_attention" for kind in kinds))
    if not count or not text.get("linear_num_value_heads"):
        return {}
    return {
        "linear_layers": count,
        "linear_key_heads": number(text, ("linear_num_key_heads",), MAX["heads"]),
        "linear_value_heads": number(text, ("linear_num_value_heads",), MAX["heads"]),
        "linear_key_dim": number(text, ("linear_key_head_dim",), 1 << 16),
        "linear_value_dim": number(text, ("linear_value_head_dim",), 1 << 16),
        "linear_kernel": number(text, ("linear_conv_kernel_dim",), 1024, 4),
        "attention_gate": text.get("attn_output_gate", True) is True,
        "qk_norm": True,
    }


def _vision(config: Config) -> Config:
    vision = config.get("vision_config")
    return vision if isinstance(vision, Mapping) else {}
