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
    head_dim: int
    intermediate: int
    vocab: int
    max_len: int
    source: str  # where this was read from, in words
    location: str = ""  # what an engine is told to load: a path, or a Hub id
    gguf: bool = False
    dtype: str = "bfloat16"
    tied: bool = False
    qkv_bias: bool = False
    quantization: str | None = None
    group_size: int = 0
    weight_block: int = 0
    parameters: int = 0  # published total; 0 = count them
    weight_bytes: int = 0  # as stored; 0 = parameters x bytes each
    experts: int = 0
    moe_intermediate: int = 0
    shared_experts: int = 0
    dense_layers: int = 0  # leading layers without experts
    kv_lora_rank: int = 0  # above 0: multi-head latent attention
    q_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    sliding_window: int = 0
    windowed_layers: int = 0
    vision_heads: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def latent_attention(self) -> bool:
        """MLA: one compressed KV per token, never split over tensor-parallel ranks."""
        return self.kv_lora_rank > 0


class ProfileError(ValueError):
    """A model's files or configuration do not say what the planner must know; the text says what is wrong."""
