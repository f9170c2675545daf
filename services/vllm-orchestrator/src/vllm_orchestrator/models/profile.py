"""`ModelProfile`: everything the planner knows of a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelProfile:
    """The shape of a decoder-only transformer and how its weights are stored. Sizes in elements and bytes."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int  # of keys and values; with latent attention the part of a key without position
    intermediate: int
    vocab: int
    max_len: int
    source: str  # where this was read from, in words
    location: str = ""  # what an engine is told to load: a path, or a Hub id
    gguf: bool = False
    dtype: str = "bfloat16"
    tied: bool = False
    qkv_bias: bool = False
    output_bias: bool = False  # of the attention's output projection
    qk_norm: bool = False
    norms_per_layer: int = 2
    gated: bool = True  # feed-forward of three matrices (gate, up, down) or of two
    quantization: str | None = None
    bits: float = 0  # per quantised weight; 0 = what the method usually has
    group_size: int = 0
    weight_block: int = 0
    kv_cache_dtype: str | None = None  # what the checkpoint asks for
    parameters: int = 0  # published total; 0 = count them
    weight_bytes: int = 0  # as stored; 0 = parameters x bytes each
    extra_parameters: int = 0  # beside the decoder: vision and audio towers
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    moe_bias: bool = False
    shared_intermediate: int = 0  # width of what every token passes beside its experts
    dense_layers: int = 0  # leading layers without experts
    moe_every: int = 1  # experts in every n-th layer only
    dense_beside_experts: bool = False  # a dense feed-forward as well as experts in each layer
    kv_lora_rank: int = 0  # above 0: multi-head latent attention
    q_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0  # with latent attention; 0 = head_dim
    index_heads: int = 0  # sparse attention's indexer
    index_head_dim: int = 0
    sliding_window: int = 0
    windowed_layers: int = 0
    full_kv_heads: int = 0  # of layers without a window, where they differ
    full_head_dim: int = 0
    attention_gate: bool = False  # queries carry a gate of their own size
    linear_layers: int = 0  # layers with linear attention: a state per request, no KV per token
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_dim: int = 0
    linear_value_dim: int = 0
    linear_kernel: int = 4
    vision_heads: int = 0
    supports_pipeline: bool = True
    generates: bool = True  # False: embeddings, scores; nothing is sampled
    plain_attention: bool = False  # the checkpoint leaves attention unquantised
    aliases: tuple[str, ...] = ()

    @property
    def latent_attention(self) -> bool:
        """MLA: one compressed KV per token, never split over tensor-parallel ranks."""
        return self.kv_lora_rank > 0

    def layers_with_experts(self, layers: range) -> int:
        """How many of these layers have a mixture of experts as their feed-forward."""
        first = max(layers.start, self.dense_layers)
        if not self.experts or layers.stop <= first:
            return 0
        return layers.stop // self.moe_every - first // self.moe_every


class ProfileError(ValueError):
    """A model's files or configuration do not say what the planner must know; the text says what is wrong."""
