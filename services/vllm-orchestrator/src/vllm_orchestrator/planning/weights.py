"""Weights of one rank, from the model's shape: to the byte for dense models in their own dtype.

Closed form of VLLM.md B2 (no difference to seven real models), with the splits of vLLM's layers: columns and
rows of linear layers by tensor parallel, KV heads replicated below it, norms, routers and MLA's down-
projections whole.
"""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from vllm_orchestrator.models.profile import ModelProfile

DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2, "auto": 2}
# bits of a quantised weight with the scales of the method's usual group (VLLM.md B2)
BITS = {
    "fp8": 8, "fbgemm_fp8": 8, "int8": 8, "experts_int8": 8, "w8a8": 8, "compressed-tensors": 8,
    "awq": 4.16, "gptq": 4.16, "int4": 4.16, "awq_marlin": 4.16, "gptq_marlin": 4.16, "auto-round": 4.16,
    "auto_round": 4.16, "bitsandbytes": 4.5, "mxfp4": 4.25, "nvfp4": 4.5, "modelopt": 4.5,
    "modelopt_fp4": 4.5,
}  # fmt: skip
EXPERTS_ONLY = frozenset({"mxfp4", "experts_int8"})
VOCAB_STEP = 64
MXFP4_HIDDEN_STEP = 256


class Count(NamedTuple):
    """Parameters by what quantisation does to them: linear layers, experts, and the rest, which stays."""

    linear: int = 0
    expert: int = 0
    small: int = 0

    def plus(self, other: "Count", times: int) -> "Count":
        return Count(
            self.linear + other.linear * times,
            self.expert + other.expert * times,
            self.small + other.small * times,
        )

    @property
    def total(self) -> int:
        return self.linear + self.expert + self.small


@dataclass(frozen=True)
class Stage:
    """The part of a model that one pipeline stage holds; the first has the embedding, the last the head."""

    layers: range
    first: bool = True
    last: bool = True


def whole_model(profile: ModelProfile) -> Stage:
    """All of it as one stage."""
    return Stage(range(profile.layers))


def counted_parameters(profile: ModelProfile) -> int:
    """Parameters of the whole model by the closed form."""
    decoder = _layers(profile, 1, range(profile.layers), False).total
    heads = profile.vocab * profile.hidden * (1 if profile.tied else 2)
    return decoder + heads + profile.hidden + profile.extra_parameters


def whole_weight_bytes(profile: ModelProfile) -> int:
    """Bytes of the model as an engine holds it on one GPU."""
    return ceil(rank_weight_bytes(profile, 1, whole_model(profile)))


def active_weight_bytes(profile: ModelProfile) -> float:
    """Bytes of weights that one token reads: no expert that it does not pass, no embedding, no towers."""
    plain = DTYPE_BYTES.get(profile.dtype, 2)
    count = _layers(profile, 1, range(profile.layers), False)
    linear = plain if profile.quantization in EXPERTS_ONLY else quantised_bytes(profile)
    passed = profile.experts_per_token / profile.experts if profile.experts else 0.0
    head = profile.vocab * profile.hidden * plain
    return (
        count.linear * linear + count.expert * passed * quantised_bytes(profile) + count.small * plain + head
    )


def rank_weight_bytes(
    profile: ModelProfile, tp: int, stage: Stage, *, expert_parallel: bool = False
) -> float:
    """Weights in bytes of one tensor-parallel rank of a pipeline stage.

    Where the stored size is known (`weight_bytes`), what the closed form lacks of it is added: towers to the
    first stage, anything else by layers.
    """
    counted = _counted_bytes(profile, tp, stage, expert_parallel)
    return counted + _unexplained(profile, stage) / tp


def _counted_bytes(profile: ModelProfile, tp: int, stage: Stage, expert_parallel: bool) -> float:
    plain = DTYPE_BYTES.get(profile.dtype, 2)
    count = _layers(profile, tp, stage.layers, expert_parallel)
    linear = plain if profile.quantization in EXPERTS_ONLY else quantised_bytes(profile)
    expert = quantised_bytes(profile) * _padding(profile)
    total = count.linear * linear + count.expert * expert + count.small * plain
    padded = ceil(profile.vocab / VOCAB_STEP) * VOCAB_STEP
    head = ceil(padded / tp) * profile.hidden * plain
    if stage.first:
        total += head + profile.extra_parameters * plain / tp
    if stage.last:
        total += profile.hidden * plain
        if not profile.tied or not stage.first:
            total += head
    return total


def quantised_bytes(profile: ModelProfile) -> float:
    """Bytes of one quantised weight, scales included."""
    plain = DTYPE_BYTES.get(profile.dtype, 2)
    if profile.quantization is None:
        return plain
    bits = profile.bits or BITS.get(profile.quantization, 8 * plain)
    scales = 32 / profile.weight_block**2 if profile.weight_block else 0.0
    return (bits + scales) / 8


def _padding(profile: ModelProfile) -> float:
    """MXFP4 experts are padded to whole tiles when loaded: gpt-oss-120b is 64.4 GiB then, 60.8 stored."""
    if profile.quantization != "mxfp4":
        return 1.0
    return ceil(profile.hidden / MXFP4_HIDDEN_STEP) * MXFP4_HIDDEN_STEP / profile.hidden


def _unexplained(profile: ModelProfile, stage: Stage) -> float:
    """This stage's part of the stored bytes that the closed form does not account for."""
    stored = profile.weight_bytes
    if not stored:
        return 0.0
    vocab_padding = ceil(profile.vocab / VOCAB_STEP) * VOCAB_STEP - profile.vocab
    heads = profile.hidden * vocab_padding * DTYPE_BYTES.get(profile.dtype, 2) * (1 if profile.tied else 2)
    whole = _counted_bytes(profile, 1, whole_model(profile), False) - heads
    if profile.quantization == "mxfp4":
        count = _layers(profile, 1, range(profile.layers), False)
        whole -= count.expert * quantised_bytes(profile) * (_padding(profile) - 1)
    missing = stored - whole
    if profile.vision_heads and missing > 0:
        return missing if stage.first else 0.0
    return missing * len(stage.layers) / profile.layers


def _layers(profile: ModelProfile, tp: int, layers: range, expert_parallel: bool) -> Count:
    """Layers of a kind weigh the same, so each kind is counted once."""
    moe = profile.layers_with_experts(layers)
    linear = round(len(layers) * profile.linear_layers / profile.layers)
    full = round(len(layers) * _full_share(profile))
    keep = _plain if profile.plain_attention else _same
    parts = [(Count(small=profile.norms_per_layer * profile.hidden), len(layers))]
    if moe:
        parts.append((_feed_forward(profile, tp, True, expert_parallel), moe))
    if moe < len(layers):
        parts.append((_feed_forward(profile, tp, False, expert_parallel), len(layers) - moe))
    if linear:
        parts.append((keep(_linear_attention(profile, tp)), linear))
    if full:
        parts.append((keep(_attention(profile, tp, True)), full))
    parts.append((keep(_attention(profile, tp, False)), len(layers) - linear - full))
    count = Count()
    for part, times in parts:
        count = count.plus(part, times)
    return count


def _same(count: Count) -> Count:
    return count


def _plain(count: Count) -> Count:
    """Left as it was trained by the checkpoint's quantisation."""
    return Count(small=count.linear + count.small)


def _full_share(profile: ModelProfile) -> float:
    """Share of layers that have the other attention shape of `full_kv_heads` and `full_head_dim`."""
    if not profile.full_head_dim:
        return 0.0
    return (profile.layers - profile.windowed_layers - profile.linear_layers) / profile.layers


def _feed_forward(profile: ModelProfile, tp: int, experts: bool, expert_parallel: bool) -> Count:
    hidden = profile.hidden
    matrices = 3 if profile.gated else 2
    dense = matrices * hidden * ceil(profile.intermediate / tp)
    if not experts:
        return Count(linear=dense)
    whole = 1 if expert_parallel else tp
    held = ceil(profile.experts / tp) if expert_parallel else profile.experts
    inner = ceil(profile.moe_intermediate / whole)
    shared = 3 * hidden * ceil(profile.shared_intermediate / tp)
    beside = dense if profile.dense_beside_experts else 0
    router = hidden * profile.experts
    bias = held * (2 * inner + hidden) + profile.experts if profile.moe_bias else 0
    return Count(shared + beside, held * 3 * hidden * inner, router + bias)


def _attention(profile: ModelProfile, tp: int, full: bool) -> Count:
    if profile.latent_attention:
        return _latent_attention(profile, tp)
    hidden, heads = profile.hidden, ceil(profile.heads / tp)
    dim = profile.full_head_dim if full else profile.head_dim
    kv = max(1, (profile.full_kv_heads if full else profile.kv_heads) // tp)
    queries = heads * dim * (2 if profile.attention_gate else 1)
    bias = queries + 2 * kv * dim if profile.qkv_bias else 0
    bias += hidden if profile.output_bias else 0
    norms = 2 * dim if profile.qk_norm else 0
    return Count(linear=hidden * (queries + heads * dim + 2 * kv * dim), small=bias + norms)


def _latent_attention(profile: ModelProfile, tp: int) -> Count:
    """DeepSeek's MLA: down-projections whole on every rank, up-projections by heads."""
    hidden, heads, key = profile.hidden, ceil(profile.heads / tp), profile.head_dim
    value, rope, low = profile.v_head_dim or key, profile.qk_rope_head_dim, profile.q_lora_rank
    query = heads * (key + rope)
    latent = hidden * (profile.kv_lora_rank + rope) + profile.kv_lora_rank * heads * (key + value)
    index = profile.index_heads * profile.index_head_dim * low + hidden * profile.index_head_dim
    index = index + hidden * profile.index_heads if profile.index_heads else 0
    projected = hidden * low + low * query if low else hidden * query
    return Count(projected + latent + heads * value * hidden + index, small=low + profile.kv_lora_rank)


def _linear_attention(profile: ModelProfile, tp: int) -> Count:
    """Gated delta net (Qwen3-Next on): q, k, v, gate, two scalars a head, a short convolution, output."""
    keys = profile.linear_key_heads * profile.linear_key_dim // tp
    values = profile.linear_value_heads * profile.linear_value_dim // tp
    heads = profile.linear_value_heads // tp
    linear = profile.hidden * (2 * keys + 2 * values + 2 * heads) + values * profile.hidden
    small = (2 * keys + values) * profile.linear_kernel + 2 * heads + profile.linear_value_dim
    return Count(linear, small=small)
