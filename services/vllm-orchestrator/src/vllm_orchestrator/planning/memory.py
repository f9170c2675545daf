"""What one rank of a layout holds: weights, activations, graphs, what lies outside the allocator, KV cache.

KV cache = utilisation x card - weights - activation peak - non-torch (- graphs, by release). Each term is
physical and has its source beside it (`weights`, `kv_cache`, `release`); docs/performance.md holds the sum
against 55 logged start-ups of real vLLM.
"""

from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.kv_cache import kv_bytes_per_request, kv_bytes_per_token, stage_layers
from vllm_orchestrator.planning.release import CURRENT, Release
from vllm_orchestrator.planning.weights import DTYPE_BYTES, Stage, counted_parameters, rank_weight_bytes

__all__ = [
    "DTYPE_BYTES", "RankMemory", "Stage", "Workload", "counted_parameters", "fullest_rank",
    "kv_bytes_per_token", "pipeline", "rank_weight_bytes", "ranks", "stage_layers",
]  # fmt: skip
HIDDEN_COPIES, INNER_COPIES = 4, 3  # residual, normalised, in and out; gate, up and their product


SEEING_SEQS = 256


@dataclass(frozen=True)
class Workload:
    """What the engine is asked to hold at once."""

    max_model_len: int
    max_num_seqs: int
    max_batched_tokens: int
    kv_dtype_bytes: int = 2
    enforce_eager: bool = False
    expert_parallel: bool = False
    linked: bool = True  # the ranks of one stage have a fast link
    release: Release = CURRENT


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank; `request` is the KV cache of one sequence of the full length."""

    weights: int
    activations: int
    overhead: int
    request: int
    tokens_per_request: int
    graphs_outside: int = 0  # of `overhead`: captured after the budget was divided

    @property
    def fixed(self) -> int:
        return self.weights + self.activations + self.overhead

    @property
    def least(self) -> int:
        """The least this rank can start with: vLLM refuses less KV than one full request."""
        return self.fixed + self.request

    def kv_cache(self, budget: int) -> int:
        """Bytes left for the KV cache of `budget` = utilisation x card. Below 0: it cannot start."""
        return budget - self.fixed + self.graphs_outside


def fullest_rank(profile: ModelProfile, tp: int, pp: int, workload: Workload) -> RankMemory:
    """The rank that needs most: it decides, because every rank gets the same number of KV blocks."""
    return max(ranks(profile, tp, stage_layers(profile.layers, pp), workload), key=lambda rank: rank.least)


def ranks(
    profile: ModelProfile, tp: int, stages: tuple[int, ...], workload: Workload
) -> tuple[RankMemory, ...]:
    """One rank of each pipeline stage; `stages` are their layers."""
    found: dict[tuple[int, bool, bool, int], RankMemory] = {}
    held = []
    for stage in pipeline(stages):
        alike = (len(stage.layers), stage.first, stage.last, profile.layers_with_experts(stage.layers))
        if alike not in found:
            found[alike] = _rank(profile, tp, stage, workload)
        held.append(found[alike])
    return tuple(held)


def pipeline(stages: tuple[int, ...]) -> tuple[Stage, ...]:
    """The stages whose numbers of layers these are."""
    ends = list(accumulate(stages))
    return tuple(
        Stage(range(end - layers, end), first=end == layers, last=end == ends[-1])
        for layers, end in zip(stages, ends, strict=True)
    )


def _rank(profile: ModelProfile, tp: int, stage: Stage, workload: Workload) -> RankMemory:
    release, layers = workload.release, len(stage.layers)
    graphs = 0 if workload.enforce_eager else release.graph_bytes(layers, workload.max_num_seqs)
    weights = rank_weight_bytes(profile, tp, stage, expert_parallel=workload.expert_parallel)
    return RankMemory(
        weights=ceil(weights),
        activations=_activations(profile, tp, stage.last, workload),
        overhead=release.non_torch(tp, workload.linked) + graphs,
        request=kv_bytes_per_request(
            profile,
            tp,
            layers,
            workload.max_model_len,
            in_flight=workload.max_batched_tokens,
            dtype_bytes=workload.kv_dtype_bytes,
        ),
        tokens_per_request=workload.max_model_len,
        graphs_outside=0 if release.counts_graphs else graphs,
    )


def _activations(profile: ModelProfile, tp: int, last: bool, workload: Workload) -> int:
    """The larger of the sampler's dummy run (last stage only, whole vocabulary at any TP) and the forward
    pass.

    A model that sees holds its encoder's output and the merged embeddings as well, and its sampler is tried
    with 256 sequences at most (Mistral-Small-3.2 on H100, Qwen3-VL-8B on B200: within 0.1 GiB; with 1024 2.7
    and 4 off).
    """
    tokens = workload.max_batched_tokens
    states = tokens * profile.hidden * 2
    forward = tokens * 2 * (HIDDEN_COPIES * profile.hidden + _inner_width(profile, tp, workload))
    seqs = workload.max_num_seqs
    if profile.vision_heads or profile.extra_parameters:
        forward += 2 * states
        seqs = min(seqs, SEEING_SEQS)
    if not last or not profile.generates:
        return ceil(forward)
    sampler = workload.release.sampler_bytes * seqs * profile.vocab
    return ceil(max(forward, sampler + states))


def _inner_width(profile: ModelProfile, tp: int, workload: Workload) -> float:
    """Elements per token between a layer's in and out: the dense feed-forward, or what its experts keep."""
    dense = INNER_COPIES * profile.intermediate / tp
    if not profile.experts:
        return dense
    inner = INNER_COPIES * profile.moe_intermediate / (1 if workload.expert_parallel else tp)
    mixed = profile.experts_per_token * (inner + profile.hidden)
    return max(mixed, dense) if profile.dense_layers else mixed
