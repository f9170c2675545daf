"""Which cards may hold a layout: stages of tensor-parallel cards of one kind, on one host or several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from heapq import nlargest, nsmallest

from compute_common.enums import Strategy
from vllm_orchestrator.planning.inventory import GpuSlot, Host, Kind
from vllm_orchestrator.planning.result import Wish
from vllm_orchestrator.planning.stages import (
    MAX_STAGES_OVER_HOSTS,
    Group,
    Member,
    by_kind,
    choose,
    room,
    roomiest,
    stages_of,
    unlike_stages,
)

MAX_MIXED_HOSTS = 64
MAX_KINDS, MAX_CARDS = 64, 64  # looked at; an inventory of a request may name any number


@dataclass(frozen=True)
class Shape:
    """How the model is cut: `tp` x `pp`; with `expert_parallel` experts stay whole and are dealt out."""

    tp: int
    pp: int
    expert_parallel: bool = False

    @property
    def label(self) -> str:
        dealt = " with expert parallel" if self.expert_parallel else ""
        return f"TP {self.tp} x PP {self.pp}{dealt}"

    @property
    def strategy(self) -> Strategy:
        if self.tp == self.pp == 1:
            return Strategy.SINGLE_GPU
        if self.pp == 1:
            return Strategy.TENSOR_PARALLEL
        return Strategy.PIPELINE_PARALLEL if self.tp == 1 else Strategy.HYBRID_TP_PP


@dataclass(frozen=True)
class Layout:
    """A shape on cards: one group per stage, each of one kind on one host; a host's stages stand together."""

    shape: Shape
    stages: tuple[Group, ...]

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The cards of each host, in the order of its stages."""
        found: dict[str, tuple[Host, list[GpuSlot]]] = {}
        for host, cards in self.stages:
            found.setdefault(host.node_id, (host, []))[1].extend(cards)
        return tuple((host, tuple(cards)) for host, cards in found.values())

    @cached_property
    def gpus(self) -> tuple[GpuSlot, ...]:
        return tuple(gpu for _host, group in self.stages for gpu in group)

    @property
    def mixed(self) -> bool:
        """Whether stages differ in their kind of card."""
        return len({group[0].kind for _host, group in self.stages}) > 1

    @property
    def where(self) -> str:
        """The hosts and cards in words."""
        names = list(dict.fromkeys(gpu.name for gpu in self.gpus))
        hosts = ", ".join(host.node_id for host, _group in self.groups[:4])
        more = ", …" if len(self.groups) > 4 else ""
        return f"{len(self.gpus)} x {' and '.join(names)} ({hosts}{more})"

    @property
    def label(self) -> str:
        return f"{self.shape.label} on {self.where}"


class Fleet:
    """The cards of many hosts by kind, asked for the best place of a shape.

    Built in one pass; a question looks at each host of the kind once (1,000 hosts of 8: see
    docs/performance.md). Hosts `with_files` of the model come before others as good.
    """

    def __init__(self, hosts: Sequence[Host], with_files: frozenset[str] = frozenset()) -> None:
        self._with_files = with_files
        self._samples: dict[Kind, GpuSlot] = {}
        self._hosts: dict[Kind, list[Member]] = {}
        self._mixed_hosts: list[Host] = []
        for host in hosts:
            kinds = by_kind(host.gpus)
            for kind, cards in kinds.items():
                self._hosts.setdefault(kind, []).append((host, cards))
            if len(kinds) > 1:
                self._mixed_hosts.append(host)

    @property
    def kinds(self) -> list[Kind]:
        return sorted(nlargest(MAX_KINDS, self._hosts, key=lambda kind: (len(self._hosts[kind]), kind)))

    def most_cards(self, kind: Kind) -> int:
        """The most cards of a kind that one host has; MIG slices do not join."""
        most = 1 if kind.sliced else max(len(cards) for _host, cards in self._hosts[kind])
        return min(most, MAX_CARDS)

    def sample(self, kind: Kind) -> GpuSlot:
        """A card that stands for its kind when memory is reckoned: the smallest, linked where any is."""
        if kind not in self._samples:
            every = [gpu for _host, cards in self._hosts[kind] for gpu in cards]
            smallest = min(every, key=lambda gpu: gpu.total_mb)
            links = next((gpu.links for gpu in every if gpu.links), frozenset())
            self._samples[kind] = replace(smallest, links=links)
        return self._samples[kind]

    def emptiest(self, kind: Kind, count: int) -> Group | None:
        """The `count` cards of one host whose fullest has most free memory."""
        able = [item for item in self._hosts[kind] if len(item[1]) >= count]
        if not able:
            return None
        host, cards = max(able, key=lambda item: item[1][count - 1].free_mb)
        return host, choose(cards, count)

    def best(
        self, kind: Kind, count: int, need_mb: int, speed: dict[str, float], *, prefer_files: bool = True
    ) -> Group | None:
        """`count` cards of one host with `need_mb` free each.

        Linked before unlinked, then hosts with the files, the fastest measured, the one that leaves least.
        """
        near = self._with_files if prefer_files else frozenset()
        able = [
            (
                not _joined(cards, count),
                host.node_id not in near,
                -speed.get(host.node_id, 0.0),
                cards[count - 1].free_mb,
                position,
            )
            for position, (host, cards) in enumerate(self._hosts[kind])
            if len(cards) >= count and cards[count - 1].free_mb >= need_mb
        ]
        if not able:
            return None
        host, cards = self._hosts[kind][min(able)[4]]
        tight = nsmallest(len(cards), (gpu for gpu in cards if gpu.free_mb >= need_mb), key=_left_over)
        return host, choose(tight, count)

    def copies(self, kind: Kind, count: int, need_mb: int) -> int:
        """How many times `count` cards of one host with `need_mb` free each can be taken."""
        found = 0
        for _host, cards in self._hosts[kind]:
            found += sum(gpu.free_mb >= need_mb for gpu in cards) // count
        return found

    def over_hosts(self, tp: int) -> Iterator[tuple[Group, ...]]:
        """For each kind the stages of `tp` cards that its hosts can hold, hosts with most stages first.

        Once more with the roomiest stages first, where hosts are partly used, and with hosts with the files,
        where some have them.
        """
        for kind, members in self._hosts.items():
            if kind.sliced or max(len(cards) for _host, cards in members) < tp:
                continue
            able = [item for item in members if len(item[1]) >= tp]
            first = nlargest(MAX_STAGES_OVER_HOSTS, able, key=lambda item: room(item[1], tp))
            yield tuple(stage for host, cards in first for stage in stages_of(host, cards, tp))
            yield from roomiest(able, tp)
            if 0 < sum(host.node_id in self._with_files for host, _cards in able) < len(able):
                near = nlargest(MAX_STAGES_OVER_HOSTS, able, key=lambda item: self._near(item, tp))
                yield tuple(stage for host, cards in near for stage in stages_of(host, cards, tp))

    def _near(self, item: tuple[Host, Sequence[GpuSlot]], tp: int) -> tuple[bool, tuple[int, int]]:
        host, cards = item
        return host.node_id in self._with_files, room(cards, tp)

    def on_one_host_mixed(self, tp: int) -> Iterator[tuple[Group, ...]]:
        """Stages on unlike cards of one host and vendor, the roomiest first."""
        for host in self._mixed_hosts[:MAX_MIXED_HOSTS]:
            per_vendor: dict[str, list[Member]] = {}
            for kind, cards in by_kind(host.gpus).items():
                if not kind.sliced:
                    per_vendor.setdefault(kind.vendor, []).append((host, cards))
            for members in per_vendor.values():
                yield from unlike_stages(members, tp)

    def over_hosts_mixed(self, tp: int) -> Iterator[tuple[Group, ...]]:
        """Stages on unlike cards of one vendor on all hosts, the roomiest first."""
        per_vendor: dict[str, list[Member]] = {}
        for kind, members in self._hosts.items():
            if kind.sliced:
                continue
            able = [item for item in members if len(item[1]) >= tp]
            most = nlargest(MAX_STAGES_OVER_HOSTS, able, key=lambda item: room(item[1], tp))
            roomy = nlargest(MAX_STAGES_OVER_HOSTS, able, key=lambda item: item[1][tp - 1].free_mb)
            chosen = {host.node_id: (host, cards) for host, cards in (*most, *roomy)}
            per_vendor.setdefault(kind.vendor, []).extend(chosen.values())
        for members in per_vendor.values():
            yield from unlike_stages(members, tp)


def wanted(shape: Shape, wish: Wish) -> bool:
    """Whether the shape is what was asked for, where something was."""
    return (
        (wish.tp is None or shape.tp == wish.tp)
        and (wish.pp is None or shape.pp == wish.pp)
        and (wish.strategy is None or shape.strategy is wish.strategy)
    )


def _joined(cards: Sequence[GpuSlot], count: int) -> bool:
    """Whether some `count` of these cards are linked, judged by how many links the emptiest has."""
    return count == 1 or len(cards[0].links) >= count - 1


def _left_over(gpu: GpuSlot) -> tuple[int, int]:
    return gpu.free_mb, gpu.index
