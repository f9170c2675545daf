"""The layouts a model's shape forbids. Rules of VLLM.md B1, numbered as there; seen in vLLM 0.32."""

from math import ceil

from vllm_orchestrator.models.profile import ModelProfile

LEAST_CAPABILITY = {
    "gptq": 6.0, "awq": 7.5, "fp8": 7.5, "gptq_marlin": 7.5, "awq_marlin": 7.5, "mxfp4": 8.0,
    "experts_int8": 8.0, "fbgemm_fp8": 8.0, "fp_quant": 10.0,
}  # fmt: skip
LEAST_CAPABILITY_ANY = 7.5
LEAST_CAPABILITY_BFLOAT16 = 8.0
GROUPED = frozenset(
    {"awq", "gptq", "awq_marlin", "gptq_marlin", "compressed-tensors", "auto-round", "auto_round"}
)


def why_not(
    profile: ModelProfile,
    tp: int,
    pp: int,
    capability: float | None = None,
    *,
    dtype: str | None = None,
    whole_experts: bool = False,
) -> str | None:
    """Why (tp, pp) cannot run this model on such a GPU, or None when it can.

    `dtype` is one that was asked for; with `whole_experts` experts are dealt out, not split (expert
    parallel).
    """
    return (
        _heads(profile, tp)
        or _widths(profile, tp, whole_experts)
        or _groups(profile, tp, whole_experts)
        or _blocks(profile, tp, whole_experts)
        or _stages(profile, pp)
        or _card(profile, capability, dtype)
    )


def _heads(profile: ModelProfile, tp: int) -> str | None:
    """Rules 1 and 2, and the same for towers and linear attention."""
    if profile.heads % tp:
        return f"{profile.heads} attention heads do not divide by tensor parallel {tp}"
    if profile.vision_heads and profile.vision_heads % tp:
        return f"the vision tower's {profile.vision_heads} heads do not divide by tensor parallel {tp}"
    if profile.linear_layers and (profile.linear_key_heads % tp or profile.linear_value_heads % tp):
        both = f"{profile.linear_key_heads} key and {profile.linear_value_heads} value heads"
        return f"linear attention's {both} do not divide by tensor parallel {tp}"
    if profile.latent_attention:
        return None
    for kv_heads in {profile.kv_heads, profile.full_kv_heads or profile.kv_heads}:
        larger, smaller = max(kv_heads, tp), min(kv_heads, tp)
        if larger % smaller:
            return f"{kv_heads} KV heads neither divide by tensor parallel {tp} nor replicate over it"
    return None


def _widths(profile: ModelProfile, tp: int, whole_experts: bool) -> str | None:
    """Rules 3 and 4."""
    padded = ceil(profile.vocab / 64) * 64
    widths = [("feed-forward", profile.intermediate)] if _has_dense(profile) else []
    if profile.experts and not whole_experts:
        widths.append(("experts'", profile.moe_intermediate))
    widths.append(("shared expert's", profile.shared_intermediate))
    if padded % tp:
        return f"the vocabulary ({profile.vocab}, padded to {padded}) does not divide by tensor parallel {tp}"
    for what, width in widths:
        if width % tp:
            return f"the {what} width {width} does not divide by tensor parallel {tp}"
    return None


def _groups(profile: ModelProfile, tp: int, whole_experts: bool) -> str | None:
    """Rule 6: rows of AWQ and GPTQ layers are split at whole groups."""
    group = profile.group_size
    if group <= 0 or tp == 1 or profile.quantization not in GROUPED:
        return None
    for what, width in _split_rows(profile, whole_experts):
        if (width // tp) % group:
            return f"a shard of {width}/{tp} of {what} breaks the quantisation group of {group}"
    return None


def _blocks(profile: ModelProfile, tp: int, whole_experts: bool) -> str | None:
    """Rule 7: block-quantised FP8 is split at whole blocks."""
    block = profile.weight_block
    if not block or tp == 1:
        return None
    for what, width in _split_rows(profile, whole_experts):
        if ceil(width / tp) % block:
            return f"a shard of {width}/{tp} of {what} breaks the quantisation block of {block}"
    return None


def _split_rows(profile: ModelProfile, whole_experts: bool) -> list[tuple[str, int]]:
    """The inputs of row-parallel layers, which tensor parallel cuts."""
    value = profile.v_head_dim or profile.head_dim
    rows = [("the attention output", profile.heads * value)]
    if profile.experts and not whole_experts:
        rows.append(("the experts", profile.moe_intermediate))
    if profile.shared_intermediate:
        rows.append(("the shared expert", profile.shared_intermediate))
    if _has_dense(profile):
        rows.append(("the feed-forward", profile.intermediate))
    return rows[1:] if profile.plain_attention else rows


def _has_dense(profile: ModelProfile) -> bool:
    spread = profile.dense_layers > 0 or profile.moe_every > 1 or profile.dense_beside_experts
    return not profile.experts or spread


def _stages(profile: ModelProfile, pp: int) -> str | None:
    """Rule 5."""
    if pp > profile.layers:
        return f"{profile.layers} layers cannot be cut into {pp} pipeline stages"
    if pp > 1 and not profile.supports_pipeline:
        return "vLLM's class for this architecture has no pipeline parallelism"
    return None


def _card(profile: ModelProfile, capability: float | None, dtype: str | None) -> str | None:
    """Rule 8."""
    if capability is None:
        return None
    least = max(LEAST_CAPABILITY.get(profile.quantization or "", 0.0), LEAST_CAPABILITY_ANY)
    if capability < least:
        what = profile.quantization or "vLLM"
        return f"compute capability {capability:g} is below the {least:g} that {what} needs"
    if dtype == "bfloat16" and capability < LEAST_CAPABILITY_BFLOAT16:
        return f"compute capability {capability:g} has no bfloat16: ask for float16, or leave dtype out"
    return None
