"""How a checkpoint says that it is quantised: method, bits, groups, blocks, KV cache."""

from collections.abc import Mapping
from typing import Any

from vllm_orchestrator.models.config_fields import Config

_SCALE_BITS = 16


def quantization(config: Config, text: Config) -> tuple[str | None, float, int, int]:
    """(method, bits of a weight with its scales, group size, block size); (None, 0, 0, 0) when it is not."""
    found = _section(config, text)
    if found is None:
        return None, 0, 0, 0
    method = str(found.get("quant_method", "unknown"))[:64].lower()
    scheme = _scheme(found)
    bits, group, block = (
        _whole(scheme.get("bits", scheme.get("num_bits"))),
        _whole(scheme.get("group_size")),
        0,
    )
    sizes = found.get("weight_block_size", scheme.get("block_structure"))
    if isinstance(sizes, list):
        block = max((_whole(size) for size in sizes), default=0)
    if method == "modelopt":
        method = {"NVFP4": "nvfp4", "FP8": "fp8"}.get(str(found.get("quant_algo")), method)
    if method == "bitsandbytes":
        bits = 8 if found.get("load_in_8bit") is True else 0
    if not 2 <= bits <= 8:
        return method, 0, group, block
    zero = bits if scheme.get("zero_point") is True or scheme.get("sym") is False else 0
    return method, bits + ((_SCALE_BITS + zero) / group if group else 0), group, block


def kv_cache_dtype(config: Config, text: Config) -> str | None:
    """`fp8` for a checkpoint that brings KV scales; vLLM follows it under `auto`."""
    found = _section(config, text) or {}
    scheme = found.get("kv_cache_scheme")
    told = str(found.get("kv_cache_quant_algo", "")).upper()
    return "fp8" if told == "FP8" or (isinstance(scheme, Mapping) and scheme.get("num_bits") == 8) else None


def leaves_attention(config: Config, text: Config) -> bool:
    """Whether the checkpoint names all of its attention among what it does not quantise."""
    found = _section(config, text) or {}
    for key in ("ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers"):
        names = found.get(key)
        if isinstance(names, list) and any(_is_all_attention(name) for name in names[:100_000]):
            return True
    return False


def _is_all_attention(name: object) -> bool:
    """A pattern such as `*self_attn*`, `re:.*self_attn.*` or `self_attn`; not one layer's path."""
    return isinstance(name, str) and name.removeprefix("re:").strip(".*$^/") in (
        "self_attn",
        "model.layers.*.self_attn",
    )


def _section(config: Config, text: Config) -> Mapping[str, Any] | None:
    for holder in (config, text):
        for key in ("quantization_config", "compression_config"):
            found = holder.get(key)
            if isinstance(found, Mapping):
                return found
    return None


def _scheme(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """compressed-tensors keeps the weights' scheme in its first config group."""
    groups = found.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            return weights
    return found


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 16 else 0
