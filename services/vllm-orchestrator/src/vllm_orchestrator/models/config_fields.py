"""Bounded readers of the fields of a `config.json`."""

from collections.abc import Mapping
from typing import Any

from vllm_orchestrator.models.profile import ProfileError

Config = Mapping[str, Any]
MAX = {"layers": 4096, "hidden": 1 << 20, "heads": 1 << 16, "vocab": 1 << 26, "wide": 1 << 24}
KV_HEADS = (
    "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups",
)  # fmt: skip
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_MAX_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
_DTYPES = ("float32", "float16", "bfloat16")


def nested(config: Config) -> Config:
    """The part that describes the language model: at most two levels down (Qwen's omni models)."""
    for _level in range(2):
        inner = next((config[key] for key in _NESTED if config.get(key) is not None), None)
        if inner is None:
            return config
        if not isinstance(inner, Mapping):
            raise ProfileError("text_config is not an object")
        config = inner
    return config


def number(text: Config, names: tuple[str, ...], most: int, default: int | None = None) -> int:
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


def max_len(text: Config) -> int:
    """The smallest length the configuration names; 2048 where it names none."""
    found = [number(text, (name,), 1 << 28, 0) for name in _MAX_LENGTHS]
    return min((length for length in found if length), default=2048)


def stored_dtype(config: Config, text: Config) -> str:
    """`dtype` or `torch_dtype`, of the whole or of its text part; bfloat16 where neither says."""
    return _told_dtype(config) or _told_dtype(text) or "bfloat16"


def says_dtype(config: Config) -> bool:
    """Whether the configuration names a dtype; many older ones do not, and their weights do."""
    return bool(_told_dtype(config) or _told_dtype(nested(config)))


def _told_dtype(holder: Config) -> str | None:
    for key in ("dtype", "torch_dtype"):
        value = holder.get(key)
        if isinstance(value, str) and value.removeprefix("torch.") in _DTYPES:
            return value.removeprefix("torch.")
    return None
