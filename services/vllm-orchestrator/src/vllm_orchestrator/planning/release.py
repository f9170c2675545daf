"""What differs between vLLM releases: how they divide a GPU's memory, and which words they know.

Sources: VLLM.md B2 (source of 0.32), PARTS.md "Memory on a real vLLM GPU", and the logged start-ups of
tests/data/vllm_kv_points.csv, against which docs/performance.md shows the whole model.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

GIB = 1 << 30
BIG_CARD_MB, HUGE_CARD_MB = 70 * 1024, 160 * 1024
LATEST = (0, 32)
# one sequence's logits in the sampler's dummy run, bytes per vocabulary entry: float32 logits, their sorted
# copy and indices, probabilities and cumulative sums. 38.2 closes gpt-oss-20b, Qwen3-0.6B, -30B and -32B on
# H100 to 0.5 %; 28.3 is what 0.28 logged on an L4.
SAMPLER_BYTES, SAMPLER_LATER_BYTES = 38.2, 28.3
# per layer and captured batch size: median of ten logged captures; the estimate that later releases deduct
# instead (0.14 GiB for 48 layers x 19 sizes in 0.22, 0.49 for 64 x 67 around 0.21)
GRAPH_BYTES, GRAPH_ESTIMATE_BYTES = 0.28 * (1 << 20), 0.12 * (1 << 20)
NON_TORCH_GIB = 0.13  # CUDA context's share and library work spaces
NON_TORCH_LATER_GIB = 0.36  # from 0.21 on (0.33 on A100 in 0.26, 0.39 on L4 in 0.28)
# NCCL over NVLink by up to so many ranks: 0.54 at 2, 0.5-0.65 at 4, 2.1-2.3 at 8 (A100 and H100, 0.7 to fork
# 2026-02)
LINKED_GIB = ((2, 0.45), (4, 0.5), (1 << 20, 2.1))
UNLINKED_GIB_PER_RANK = 0.02  # over PCIe: 0.09 at 4 (RTX 3090), 0.21 at 8 (L40S)


@dataclass(frozen=True)
class Release:
    """A vLLM release, as far as memory goes."""

    version: tuple[int, int] = LATEST

    @property
    def utilization(self) -> float:
        """Default `gpu_memory_utilization`."""
        return 0.92 if self.version >= (0, 22) else 0.90

    @property
    def counts_graphs(self) -> bool:
        """Whether CUDA graphs come out of the budget; before 0.21 they were captured on top of it."""
        return self.version >= (0, 21)

    @property
    def has_ranks(self) -> bool:
        """Whether it spans hosts by itself (--nnodes, --node-rank, --headless); before, by Ray alone."""
        return self.version >= (0, 12)

    @property
    def drains(self) -> bool:
        """Whether it knows --shutdown-timeout (vllm pull request 34730)."""
        return self.version >= (0, 18)

    @property
    def sampler_bytes(self) -> float:
        """Of the sampler's dummy run, per sequence and vocabulary entry."""
        return SAMPLER_LATER_BYTES if self.version >= (0, 21) else SAMPLER_BYTES

    def graph_bytes(self, layers: int, max_num_seqs: int) -> int:
        """CUDA graphs of the decode: one per layer and captured batch size (1, 2, 4, every 8 up to 512)."""
        captured = 3 + min(512, 2 * max_num_seqs) // 8
        return int(captured * layers * (GRAPH_ESTIMATE_BYTES if self.counts_graphs else GRAPH_BYTES))

    def defaults(
        self, card_mb: int, name: str = "", max_len: int = 0, capability: float | None = None
    ) -> tuple[int, int]:
        """(max_num_seqs, max_num_batched_tokens) of the API server on such a card.

        V1 (0.8 on; on cards before Ampere 0.11 on): by card size, A100 apart. Before, without chunked
        prefill: the whole context at once, up to 32 Ki.
        """
        first = (0, 11) if capability is not None and capability < 8 else (0, 8)
        if self.version < first:
            return 256, max_len if 2048 < max_len <= 32_768 else 2048
        if card_mb >= HUGE_CARD_MB:
            return 1024, 16_384 if self.version >= (0, 10) else 8192
        if card_mb >= BIG_CARD_MB and "a100" not in name.lower():
            return 1024, 8192
        return 256, 2048

    def non_torch(self, ranks: int, linked: bool) -> int:
        """Bytes outside the allocator: context, work spaces, NCCL buffers."""
        gib = NON_TORCH_LATER_GIB if self.version >= (0, 21) else NON_TORCH_GIB
        if ranks > 1:
            over_links = next(size for most, size in LINKED_GIB if ranks <= most)
            gib += over_links if linked else UNLINKED_GIB_PER_RANK * ranks
        return int(gib * GIB)


CURRENT = Release()


@lru_cache(maxsize=64)
def release_of(text: str | None) -> Release:
    """The release that `text` names ("0.11.0", "v0.26.1rc1"); the latest known one for anything else."""
    found = re.match(r"v?(\d{1,3})\.(\d{1,3})", text or "")
    return Release((int(found[1]), int(found[2]))) if found else CURRENT
