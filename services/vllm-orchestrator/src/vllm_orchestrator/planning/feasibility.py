"""The layouts a model's shape forbids. Rules of VLLM.md B1, numbered as there; seen in vLLM 0.32."""

from math import ceil

from vllm_orchestrator.models.profile import ModelProfile

LEAST_CAPABILITY = {"gptq": 6.0, "awq": 7.5, "fp8": 7.5, "mxfp4": 8.0}
LEAST_CAPABILITY_ANY = 7.5


def why_not(profile: ModelProfile, tp: int, pp: int, capability: float | None = None) -> str | None:
    """Why (tp, pp) cannot run this model on such a GPU, or None when it can."""
    return (
        _heads(profile, tp)
        or _widths(profile, tp)
        or _quantisation(profile, tp)
        or _stages(profile, pp)
        or _card(profile, capability)
    )


def _heads(profile: ModelProfile, tp: int) -> str | None:
    if profile.heads % tp:
        return f"{profile.heads} attention heads do not divide by tensor parallel {tp}"
    if profile.vision_heads and profile.vision_heads % tp:
        return f"the vision tower's {profile.vision_heads} heads do not divide by tensor parallel {tp}"
    if profile.latent_attention:
        return None
    larger, smaller = max(profile.kv_heads, tp), min(profile.kv_heads, tp)
    if larger % smaller:
        return f"{profile.kv_heads} KV heads neither divide by tensor parallel {tp} nor replicate over it"
    return None


def _widths(profile: ModelProfile, tp: int) -> str | None:
    padded = ceil(profile.vocab / 64) * 64
    if padded % tp:
        return f"the vocabulary ({profile.vocab}, padded to {padded}) does not divide by tensor parallel {tp}"
    dense = not profile.experts or profile.dense_layers > 0
    if dense and profile.intermediate % tp:
        return f"the feed-forward width {profile.intermediate} does not divide by tensor parallel {tp}"
    if profile.experts and profile.moe_intermediate % tp:
        return f"the experts' width {profile.moe_intermediate} does not divide by tensor parallel {tp}"
    return None


def _quantisation(profile: ModelProfile, tp: int) -> str | None:
    block = profile.weight_block
    inner = profile.moe_intermediate if profile.experts else profile.intermediate
    if block and tp > 1 and ceil(inner / tp) % block:
        return f"a shard of {inner}/{tp} breaks the quantisation block of {block}"
    group = profile.group_size
    if group > 0 and tp > 1 and (inner // tp) % group:
        return f"a shard of {inner}/{tp} breaks the quantisation group of {group}"
    if group > 0 and tp > 1 and (profile.heads * profile.head_dim // tp) % group:
        return f"a shard of the attention output breaks the quantisation group of {group}"
    return None


def _stages(profile: ModelProfile, pp: int) -> str | None:
    if pp > profile.layers:
        return f"{profile.layers} layers cannot be cut into {pp} pipeline stages"
    return None


def _card(profile: ModelProfile, capability: float | None) -> str | None:
    if capability is None:
        return None
    least = LEAST_CAPABILITY.get(profile.quantization or "", LEAST_CAPABILITY_ANY)
    least = max(least, LEAST_CAPABILITY_ANY)
    if capability < least:
        what = profile.quantization or "vLLM"
        return f"compute capability {capability:g} is below the {least:g} that {what} needs"
    return None
