"""The KV cache of one rank: bytes per token and per request, by the model's attention.

Checked against what vLLM logged (VLLM.md A6): within one block for plain attention, replicated heads and
stages.
"""

from math import ceil

from vllm_orchestrator.models.profile import ModelProfile

BLOCK_TOKENS = 16
STATE_BYTES = 4  # of a linear attention's recurrent state, kept in float32


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers per pipeline stage; the remainder goes one each from the second-last backwards."""
    share, rest = divmod(layers, stages)
    split = [share] * stages
    for step in range(rest):
        split[(stages - 2 - step) % stages] += 1
    return tuple(split)


def kv_bytes_per_token(profile: ModelProfile, tp: int, layers: int, dtype_bytes: int = 2) -> int:
    """KV cache of one token in `layers` layers of one rank, when every layer keeps every token.

    KV heads replicate below TP; MLA's latent vector is on every rank whole. Linear attention keeps none.
    """
    kept = layers - round(layers * profile.linear_layers / profile.layers)
    if profile.latent_attention:
        index = profile.index_head_dim
        return kept * ((profile.kv_lora_rank + profile.qk_rope_head_dim) * dtype_bytes + index)
    full = round(layers * _full_layers(profile) / profile.layers) if profile.full_head_dim else 0
    plain = (kept - full) * max(1, profile.kv_heads // tp) * profile.head_dim
    other = full * max(1, profile.full_kv_heads // tp) * profile.full_head_dim
    return 2 * (plain + other) * dtype_bytes


def kv_bytes_per_request(
    profile: ModelProfile, tp: int, layers: int, length: int, *, in_flight: int, dtype_bytes: int = 2
) -> int:
    """KV cache and state of one request of `length` tokens, of which `in_flight` are computed at a time.

    A layer with a window keeps the window and what is in flight, in whole blocks (vLLM's sliding-window
    manager).
    """
    length = _blocks(length)
    state = _state_bytes(profile, tp, layers)
    per_token = kv_bytes_per_token(profile, tp, layers, dtype_bytes)
    if not profile.windowed_layers or not profile.sliding_window:
        return per_token * length + state
    windowed = ceil(layers * profile.windowed_layers / profile.layers)
    one = 2 * max(1, profile.kv_heads // tp) * profile.head_dim * dtype_bytes
    kept = min(length, _blocks(profile.sliding_window - 1 + in_flight) + BLOCK_TOKENS)
    return per_token * length - windowed * one * (length - kept) + state


def _full_layers(profile: ModelProfile) -> int:
    return profile.layers - profile.windowed_layers - profile.linear_layers


def _blocks(tokens: int) -> int:
    return ceil(tokens / BLOCK_TOKENS) * BLOCK_TOKENS


def _state_bytes(profile: ModelProfile, tp: int, layers: int) -> int:
    """Recurrent and convolution state of one request in this stage's linear-attention layers."""
    if not profile.linear_layers:
        return 0
    linear = ceil(layers * profile.linear_layers / profile.layers)
    keys = profile.linear_key_heads * profile.linear_key_dim
    values = profile.linear_value_heads * profile.linear_value_dim
    recurrent = profile.linear_value_heads * profile.linear_key_dim * profile.linear_value_dim * STATE_BYTES
    convolution = (2 * keys + values) * profile.linear_kernel * 2
    return linear * ceil((recurrent + convolution) / tp)
