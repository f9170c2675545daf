"""What one rank of a layout holds in memory. Sources: VLLM.md B2 (closed form, exact for dense bf16 models),
PARTS.md "Memory on a real vLLM GPU" (sampler, forward pass, non-torch; public start-up logs)."""

from dataclasses import dataclass
from math import ceil

from vllm_orchestrator.models.profile import ModelProfile

GIB = 1 << 30
DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2, "auto": 2}
QUANTISED_BYTES = {
    "fp8": 1.0, "int8": 1.0, "w8a8": 1.0, "awq": 0.53, "gptq": 0.53, "int4": 0.53, "awq_marlin": 0.53,
    "gptq_marlin": 0.53, "compressed-tensors": 1.0, "bitsandbytes": 0.53, "mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8,
}  # fmt: skip
SAMPLER_COPIES = 9.7  # x max_num_seqs x vocab x 4 B: the dummy run of the sampler
CUDA_GRAPH_BYTES = GIB // 2
NON_TORCH_GIB = ((1, 0.13), (4, 0.55), (1 << 20, 2.1))  # up to this many TP ranks


@dataclass(frozen=True)
class Workload:
    """What the engine is asked to hold at once."""

    max_model_len: int
    max_num_seqs: int
    max_batched_tokens: int
    kv_dtype_bytes: int = 2
    enforce_eager: bool = False


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank; `request` is the KV cache of one sequence of the full length."""

    weights: int
    activations: int
    overhead: int
    request: int
    tokens_per_request: int

    @property
    def fixed(self) -> int:
        return self.weights + self.activations + self.overhead

    @property
    def least(self) -> int:
        """The least this rank can start with: vLLM refuses less KV than one full request."""
        return self.fixed + self.request


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers per pipeline stage; the remainder goes one each from the second-last backwards."""
    share, rest = divmod(layers, stages)
    split = [share] * stages
    for step in range(rest):
        split[(stages - 2 - step) % stages] += 1
    return tuple(split)


def fullest_rank(profile: ModelProfile, tp: int, pp: int, workload: Workload) -> RankMemory:
    """The rank that needs most: it decides, because every rank gets the same KV budget."""
    stages = stage_layers(profile.layers, pp)
    scale = _published_scale(profile)
    ranks = []
    first = 0
    for stage, layers in enumerate(stages):
        weights = rank_weight_bytes(profile, tp, pp, stage, range(first, first + layers)) * scale
        first += layers
        ranks.append(
            RankMemory(
                weights=ceil(weights),
                activations=_activations(profile, tp, workload),
                overhead=_overhead(tp, workload.enforce_eager),
                request=_request_bytes(profile, tp, layers, workload),
                tokens_per_request=workload.max_model_len,
            )
        )
    return max(ranks, key=lambda rank: rank.least)


def rank_weight_bytes(profile: ModelProfile, tp: int, pp: int, stage: int, layers: range) -> float:
    """Weights of one rank in bytes, before scaling to the published size."""
    plain, quantised = DTYPE_BYTES.get(profile.dtype, 2), _quantised_bytes(profile)
    experts_only = profile.quantization == "mxfp4"
    total = 0.0
    for layer in layers:
        linear, expert, small = _layer(profile, tp, layer)
        total += linear * (plain if experts_only else quantised) + expert * quantised + small * plain
    padded = ceil(profile.vocab / 64) * 64 if tp > 1 else profile.vocab
    head = ceil(padded / tp) * profile.hidden
    last = stage == pp - 1
    if stage == 0:
        total += head * plain
    if last:
        total += profile.hidden * plain
        if not profile.tied or pp > 1:
            total += head * plain
    return total


def counted_parameters(profile: ModelProfile) -> int:
    """Parameters of the whole model by the closed form."""
    layers = sum(sum(_layer(profile, 1, layer)) for layer in range(profile.layers))
    return layers + profile.vocab * profile.hidden * (1 if profile.tied else 2) + profile.hidden


def kv_bytes_per_token(profile: ModelProfile, tp: int, layers: int, dtype_bytes: int = 2) -> int:
    """KV cache of one token in `layers` layers of one rank. KV heads replicate below TP; MLA always does."""
    if profile.latent_attention:
        return layers * (profile.kv_lora_rank + profile.qk_rope_head_dim) * dtype_bytes
    return layers * 2 * max(1, profile.kv_heads // tp) * profile.head_dim * dtype_bytes


def _request_bytes(profile: ModelProfile, tp: int, layers: int, workload: Workload) -> int:
    per_token = kv_bytes_per_token(profile, tp, layers, workload.kv_dtype_bytes)
    if not profile.windowed_layers or not profile.sliding_window:
        return per_token * workload.max_model_len
    windowed = profile.windowed_layers / profile.layers
    window = min(workload.max_model_len, profile.sliding_window - 1 + workload.max_batched_tokens)
    return ceil(per_token * ((1 - windowed) * workload.max_model_len + windowed * window))


def _layer(profile: ModelProfile, tp: int, layer: int) -> tuple[int, int, int]:
    """(linear, expert, small) parameters of one layer on one rank; small ones are never quantised."""
    hidden = profile.hidden
    linear, small = _attention(profile, tp)
    if not profile.experts or layer < profile.dense_layers:
        return linear + 3 * hidden * ceil(profile.intermediate / tp), 0, small + 2 * hidden
    inner = ceil(profile.moe_intermediate / tp)
    linear += profile.shared_experts * 3 * hidden * inner
    return linear, profile.experts * 3 * hidden * inner, small + 2 * hidden + hidden * profile.experts


def _attention(profile: ModelProfile, tp: int) -> tuple[int, int]:
    hidden, heads, dim = profile.hidden, ceil(profile.heads / tp), profile.head_dim
    if profile.latent_attention:
        query = dim + profile.qk_rope_head_dim
        low = profile.q_lora_rank
        return (
            (hidden * low + low * heads * query if low else hidden * heads * query)
            + hidden * (profile.kv_lora_rank + profile.qk_rope_head_dim)
            + profile.kv_lora_rank * heads * 2 * dim
            + heads * dim * hidden
        ), 0
    kv = max(1, profile.kv_heads // tp)
    bias = (heads + 2 * kv) * dim if profile.qkv_bias else 0
    return hidden * heads * dim * 2 + 2 * hidden * kv * dim, bias


def _quantised_bytes(profile: ModelProfile) -> float:
    if profile.quantization is None:
        return DTYPE_BYTES.get(profile.dtype, 2)
    return QUANTISED_BYTES.get(profile.quantization, DTYPE_BYTES.get(profile.dtype, 2))


def _published_scale(profile: ModelProfile) -> float:
    """Published size over counted size: what the closed form does not know is shared out evenly."""
    if profile.weight_bytes:
        counted = rank_weight_bytes(profile, 1, 1, 0, range(profile.layers))
        return profile.weight_bytes / counted
    return profile.parameters / counted_parameters(profile) if profile.parameters else 1.0


def _activations(profile: ModelProfile, tp: int, workload: Workload) -> int:
    """The larger of the sampler's dummy run (the same at any TP) and the forward pass."""
    sampler = SAMPLER_COPIES * workload.max_num_seqs * profile.vocab * 4
    wide = max(profile.intermediate, profile.moe_intermediate)
    forward = workload.max_batched_tokens * 2 * (6 * profile.hidden + 2 * wide / tp)
    return ceil(max(sampler, forward))


def _overhead(tp: int, enforce_eager: bool) -> int:
    non_torch = next(gib for ranks, gib in NON_TORCH_GIB if tp <= ranks)
    return ceil(non_torch * GIB) + (0 if enforce_eager else CUDA_GRAPH_BYTES)
