"""A Hugging Face `config.json`, in all its spellings, as a `ModelProfile`."""

from collections.abc import Mapping
from typing import Any

from vllm_orchestrator.models.profile import ModelProfile, ProfileError

Config = Mapping[str, Any]
_MAX = {"layers": 4096, "hidden": 1 << 20, "heads": 1 << 16, "vocab": 1 << 26, "wide": 1 << 24}
_KV_HEADS = (
    "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups",
)  # fmt: skip
_MAX_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
_EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
_BIASED_QKV = ("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl")


def profile_of_config(
    config: Config, name: str, *, source: str, location: str = "", weight_bytes: int = 0
) -> ModelProfile:
    """The profile that `config` describes.

    Field names follow vLLM's own readers (VLLM.md B3): `text_config` when nested, `dtype` or
    `torch_dtype`, the first KV-head spelling present. Raises ProfileError naming the field
    that is missing or out of range.
    """
    text = _nested(config)
    heads = _number(text, ("num_attention_heads", "n_head", "num_heads"), _MAX["heads"])
    hidden = _number(text, ("hidden_size", "n_embd", "d_model"), _MAX["hidden"])
    layers = _number(text, ("num_hidden_layers", "n_layer", "num_layers"), _MAX["layers"])
    experts = _number(text, _EXPERTS, 1 << 16, 0)
    inner = ("intermediate_size", "n_inner", "ffn_dim")
    moe_inner = ("moe_intermediate_size", *(inner if experts else ()))
    latent = _number(text, ("kv_lora_rank",), _MAX["hidden"], 0)
    method, group, block = _quantization(config, text)
    window, windowed = _windows(text, layers)
    head_dim = ("qk_nope_head_dim",) if latent else ("head_dim", "hidden_size_per_head")
    return ModelProfile(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_number(text, _KV_HEADS, _MAX["heads"], heads),
        head_dim=_number(text, head_dim, 1 << 16, 0) or max(1, hidden // heads),
        intermediate=_number(text, inner, _MAX["wide"], 0) or 4 * hidden,
        vocab=_number(text, ("vocab_size",), _MAX["vocab"]),
        max_len=_max_len(text),
        source=source,
        location=location or name,
        dtype=_dtype(config, text),
        tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
        qkv_bias=_model_type(text) in _BIASED_QKV or bool(text.get("attention_bias", False)),
        quantization=method,
        group_size=group,
        weight_block=block,
        weight_bytes=weight_bytes,
        experts=experts,
        moe_intermediate=_number(text, moe_inner, _MAX["wide"], 0) if experts else 0,
        shared_experts=_number(text, ("n_shared_experts",), 1024, 0),
        dense_layers=_number(text, ("first_k_dense_replace",), _MAX["layers"], 0) if experts else 0,
        kv_lora_rank=latent,
        q_lora_rank=_number(text, ("q_lora_rank",), _MAX["hidden"], 0),
        qk_rope_head_dim=_number(text, ("qk_rope_head_dim",), 1 << 16, 0),
        sliding_window=window,
        windowed_layers=windowed,
        vision_heads=_vision_heads(config),
    )


def _nested(config: Config) -> Config:
    text = config.get("text_config", config.get("llm_config"))
    if text is None:
        return config
    if not isinstance(text, Mapping):
        raise ProfileError("text_config is not an object")
    return text


def _number(text: Config, names: tuple[str, ...], most: int, default: int | None = None) -> int:
    """The first of `names` that is there and positive; `default` where none is; ProfileError otherwise."""
    for name in names:
        value = text.get(name)
        if value is None or value == 0:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise ProfileError(f"{name} must be a whole number from 1 to {most}")
        return value
    if default is None:
        raise ProfileError(f"the configuration lacks {names[0]}")
    return default


def _model_type(text: Config) -> str:
    return str(text.get("model_type", ""))[:64]


def _max_len(text: Config) -> int:
    """The smallest length the configuration names; 2048 where it names none."""
    found = [_number(text, (name,), 1 << 28, 0) for name in _MAX_LENGTHS]
    return min((length for length in found if length), default=2048)


def _dtype(config: Config, text: Config) -> str:
    for holder in (config, text):
        for key in ("dtype", "torch_dtype"):
            value = holder.get(key)
            if isinstance(value, str) and value.removeprefix("torch.") in ("float32", "float16", "bfloat16"):
                return value.removeprefix("torch.")
    return "bfloat16"


def _quantization(config: Config, text: Config) -> tuple[str | None, int, int]:
    """(method, group size, block size) of a quantised checkpoint."""
    found = config.get("quantization_config") or text.get("quantization_config")
    found = found or config.get("compression_config")
    if not isinstance(found, Mapping):
        return None, 0, 0
    method = str(found.get("quant_method", "unknown"))[:64].lower()
    group = found.get("group_size")
    block = found.get("weight_block_size")
    sizes = [size for size in block if isinstance(size, int)] if isinstance(block, list) else []
    return (
        method,
        group if isinstance(group, int) and group > 0 else 0,
        max([size for size in sizes if size > 0], default=0),
    )


def _windows(text: Config, layers: int) -> tuple[int, int]:
    """(window in tokens, layers that have it)."""
    if text.get("use_sliding_window") is False:
        return 0, 0
    window = _number(text, ("sliding_window",), 1 << 28, 0)
    kinds = text.get("layer_types")
    if not window:
        return 0, 0
    if isinstance(kinds, list):
        return window, min(layers, sum(kind == "sliding_attention" for kind in kinds))
    pattern = _number(text, ("sliding_window_pattern",), layers, 0)
    return window, layers - layers // pattern if pattern else layers


def _vision_heads(config: Config) -> int:
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping):
        return 0
    return _number(vision, ("num_heads", "num_attention_heads"), _MAX["heads"], 0)
