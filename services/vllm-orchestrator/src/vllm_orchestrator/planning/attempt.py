"""A layout tried at a context length: what each rank needs, what its card gives, how layers are dealt out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor

from compute_common.units import MIB
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import GpuSlot
from vllm_orchestrator.planning.kv_cache import stage_layers
from vllm_orchestrator.planning.layouts import Layout, Shape
from vllm_orchestrator.planning.memory import RankMemory, Workload, ranks
from vllm_orchestrator.planning.release import release_of
from vllm_orchestrator.planning.result import Wish, to_mib

MARGIN_MB = 256  # start-ups of one model vary; half of those logged are within 1.2 % of what is predicted

Ranks = tuple[RankMemory, ...]


@dataclass(frozen=True)
class Attempt:
    """A layout with its memory. `budgets_mb` are per stage: utilisation x card."""

    layout: Layout
    workload: Workload
    layers: tuple[int, ...]
    ranks: Ranks
    budgets_mb: tuple[int, ...]
    utilization: float
    tightest: int  # the stage that lacks most, or has least to spare
    short_mb: int  # of that stage; 0 or below: it fits
    unfree_mb: int = 0  # of the share that was asked for, on the fullest card: vLLM would not start

    @property
    def memory(self) -> RankMemory:
        return self.ranks[self.tightest]

    @property
    def usable_mb(self) -> int:
        return self.budgets_mb[self.tightest]

    @property
    def equal(self) -> bool:
        """Whether vLLM would deal out the layers so by itself."""
        return self.layers == stage_layers(sum(self.layers), len(self.layers))


class Memory:
    """Ranks of a model under a wish, each worked out once."""

    def __init__(self, profile: ModelProfile, wish: Wish) -> None:
        self.profile = profile
        self.wish = wish
        self.release = release_of(wish.engine_version)
        self._ranks: Callable[[int, tuple[int, ...], Workload], Ranks] = cache(
            lambda tp, layers, workload: ranks(profile, tp, layers, workload)
        )

    @property
    def share(self) -> float:
        """The most of a card that an engine is given."""
        return self.wish.gpu_memory_utilization or self.release.utilization

    def workload(self, shape: Shape, cards: Sequence[GpuSlot], length: int) -> Workload:
        """vLLM's own defaults for the smallest of the cards, under what was asked for."""
        smallest = min(cards, key=lambda gpu: gpu.total_mb)
        linked = any(gpu.may_be_linked for gpu in cards)
        return workload_for(
            self.profile, self.wish, smallest, length, expert_parallel=shape.expert_parallel, linked=linked
        )

    def uniform(self, shape: Shape, card: GpuSlot, length: int) -> RankMemory:
        """The fullest rank with layers dealt out evenly over such cards."""
        work = self.workload(shape, [card], length)
        found = self._ranks(shape.tp, stage_layers(self.profile.layers, shape.pp), work)
        return max(found, key=lambda rank: rank.least)

    def attempt(self, layout: Layout, length: int) -> Attempt:
        """Evenly where that fits, else layers in proportion to what the stages' cards have left for them."""
        work = self.workload(layout.shape, layout.gpus, length)
        utilization = self._utilization(layout)
        budgets = tuple(floor(utilization * group[0].total_mb) for _host, group in layout.stages)
        layers = stage_layers(self.profile.layers, layout.shape.pp)
        even = self._tried(layout, work, layers, budgets, utilization)
        if even.short_mb <= 0 or layout.shape.pp == 1 or len(set(budgets)) == 1:
            return even
        dealt = self._dealt(even)
        if dealt is None:
            return even
        uneven = self._tried(layout, work, dealt, budgets, utilization)
        return uneven if uneven.short_mb < even.short_mb else even

    def _tried(
        self, layout: Layout, work: Workload, layers: tuple[int, ...], budgets: tuple[int, ...], share: float
    ) -> Attempt:
        found = self._ranks(layout.shape.tp, layers, work)
        short = [need_mb(rank) - budget for rank, budget in zip(found, budgets, strict=True)]
        unfree = self._unfree(layout)
        worst = max(*short, unfree) if unfree > 0 else max(short)
        tightest = short.index(max(short))
        return Attempt(layout, work, layers, found, budgets, share, tightest, worst, max(0, unfree))

    def _unfree(self, layout: Layout) -> int:
        """MiB that the share asked for lacks on some card; 0 where none was asked for."""
        asked = self.wish.gpu_memory_utilization
        if asked is None:
            return 0
        return max(
            claim_mb(asked, cards) - min(gpu.free_mb for gpu in cards) for _host, cards in layout.groups
        )

    def _utilization(self, layout: Layout) -> float:
        """One share for all engines of the layout: vLLM takes it of each card, where it is free."""
        if self.wish.gpu_memory_utilization is not None:
            return self.wish.gpu_memory_utilization
        return min(
            min(min(gpu.free_mb, floor(gpu.total_mb * self.share)) for gpu in cards)
            / max(gpu.total_mb for gpu in cards)
            for _host, cards in layout.groups
        )

    def _dealt(self, even: Attempt) -> tuple[int, ...] | None:
        """Layers in proportion to capacity (whole layers that a stage's budget holds); None when too few."""
        profile = self.profile
        pairs = zip(even.ranks, even.layers, even.budgets_mb, strict=True)
        each = max(rank.weights + rank.request for rank in even.ranks[:-1] or even.ranks) / max(even.layers)
        capacity = []
        for rank, layers, budget in pairs:
            beside = need_mb(rank) * MIB - layers * each
            capacity.append(max(0, floor((budget * MIB - beside) / each)))
        room = sum(capacity)
        if room < profile.layers or min(capacity) < 1:
            return None
        dealt = [max(1, profile.layers * most // room) for most in capacity]
        while sum(dealt) != profile.layers:
            step = 1 if sum(dealt) < profile.layers else -1
            spare = [(most - own) * step for most, own in zip(capacity, dealt, strict=True)]
            dealt[spare.index(max(spare))] += step
        return tuple(dealt) if min(dealt) >= 1 else None


def claim_mb(share: float, cards: Sequence[GpuSlot]) -> int:
    """MiB that engines with this share of a host's `cards` are promised of each: by the largest of them."""
    return ceil(share * max(gpu.total_mb for gpu in cards))


def need_mb(rank: RankMemory) -> int:
    """MiB that a rank must be given to start, with the planner's margin."""
    return to_mib(rank.least) + MARGIN_MB


def workload_for(
    profile: ModelProfile,
    wish: Wish,
    card: GpuSlot,
    length: int,
    *,
    expert_parallel: bool = False,
    linked: bool = True,
) -> Workload:
    """What an engine on such a card holds at once: the release's defaults, under what was asked for."""
    release = release_of(wish.engine_version)
    seqs, tokens = release.defaults(card.total_mb, card.name, length, card.capability)
    kv = wish.kv_cache_dtype or profile.kv_cache_dtype or ""
    return Workload(
        max_model_len=length,
        max_num_seqs=wish.max_num_seqs or seqs,
        max_batched_tokens=wish.max_batched_tokens or tokens,
        kv_dtype_bytes=1 if kv.startswith("fp8") else 4 if profile.dtype == "float32" else 2,
        enforce_eager=wish.enforce_eager,
        expert_parallel=expert_parallel,
        linked=linked,
        release=release,
    )
