"""Every layout worth trying on GPUs: which cards, cut how."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from compute_common.enums import Strategy
from vllm_orchestrator.planning.inventory import GpuSlot, Host, linked
from vllm_orchestrator.planning.result import Wish

MAX_STAGES_OVER_HOSTS = 16


@dataclass(frozen=True)
class Layout:
    """`tp` x `pp` over these cards: one group of GPUs per host, all of one kind."""

    tp: int
    pp: int
    groups: tuple[tuple[Host, tuple[GpuSlot, ...]], ...]

    @property
    def gpus(self) -> tuple[GpuSlot, ...]:
        return tuple(gpu for _host, group in self.groups for gpu in group)

    @property
    def strategy(self) -> Strategy:
        if self.tp == self.pp == 1:
            return Strategy.SINGLE_GPU
        if self.pp == 1:
            return Strategy.TENSOR_PARALLEL
        return Strategy.PIPELINE_PARALLEL if self.tp == 1 else Strategy.HYBRID_TP_PP

    @property
    def label(self) -> str:
        cards = len(self.gpus)
        where = ", ".join(host.node_id for host, _group in self.groups[:4])
        return f"TP {self.tp} x PP {self.pp} on {cards} x {self.gpus[0].name} ({where})"

    @property
    def cost(self) -> tuple[int, bool, int, int, bool, int]:
        """Fewest hosts, TP alone before PP, fewest cards and stages, linked cards, the least left over."""
        free = sum(gpu.free_mb for gpu in self.gpus)
        return len(self.groups), self.pp > 1, len(self.gpus), self.pp, not linked(self.groups[0][1]), free


def wanted(layout: Layout, wish: Wish) -> bool:
    """Whether the layout is what was asked for, where something was."""
    return (
        (wish.tp is None or layout.tp == wish.tp)
        and (wish.pp is None or layout.pp == wish.pp)
        and (wish.strategy is None or layout.strategy is wish.strategy)
    )


def unlike(hosts: Sequence[Host]) -> list[Host]:
    """One host of each sort: among hosts with the same free cards the first stands for all."""
    first: dict[tuple[GpuSlot, ...], Host] = {}
    for host in hosts:
        first.setdefault(host.gpus, host)
    return list(first.values())


def on_one_host(host: Host) -> Iterator[Layout]:
    """Every (tp, pp) over 1..n cards of one kind of this host."""
    for cards in kinds(host.gpus):
        for count in range(1, len(cards) + 1):
            chosen = _choose(cards, count)
            for tp in range(1, count + 1):
                if count % tp == 0:
                    yield Layout(tp, count // tp, ((host, chosen),))


def over_hosts(hosts: Sequence[Host]) -> Iterator[Layout]:
    """TP inside a host, PP across hosts of one kind of card; the emptiest hosts first."""
    by_kind: dict[tuple[str, int], list[tuple[Host, list[GpuSlot]]]] = {}
    for host in hosts:
        for cards in kinds(host.gpus):
            by_kind.setdefault(cards[0].kind, []).append((host, cards))
    for members in by_kind.values():
        for tp in range(1, max(len(cards) for _host, cards in members) + 1):
            able = [(host, _choose(cards, tp)) for host, cards in members if len(cards) >= tp]
            able.sort(key=lambda item: -min(gpu.free_mb for gpu in item[1]))
            for pp in range(2, min(len(able), MAX_STAGES_OVER_HOSTS) + 1):
                yield Layout(tp, pp, tuple(able[:pp]))


def kinds(gpus: Sequence[GpuSlot]) -> list[list[GpuSlot]]:
    """Cards by kind, the emptiest first; kinds are never mixed in one instance."""
    ordered = sorted(gpus, key=lambda gpu: (gpu.kind, -gpu.free_mb, gpu.index))
    return [list(group) for _kind, group in groupby(ordered, key=lambda gpu: gpu.kind)]


def _choose(cards: Sequence[GpuSlot], count: int) -> tuple[GpuSlot, ...]:
    """`count` cards: a fully linked set when there is one around some card, else the emptiest."""
    if 1 < count < len(cards):
        for seed in cards:
            near = [seed, *(card for card in cards if card.index in seed.links and card is not seed)][:count]
            if len(near) == count and linked(near):
                return tuple(sorted(near, key=lambda gpu: gpu.index))
    return tuple(sorted(cards[:count], key=lambda gpu: gpu.index))
