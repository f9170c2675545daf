"""Stages out of cards: sets of one kind on one host, and in which order a layout takes them."""

from collections.abc import Iterator, Sequence
from heapq import nlargest

from vllm_orchestrator.planning.inventory import GpuSlot, Host, Kind, linked

MAX_STAGES_OVER_HOSTS = 16
MAX_SHARES = 16  # of partly used cards, tried as what every card of a layout gives
Group = tuple[Host, tuple[GpuSlot, ...]]
Member = tuple[Host, list[GpuSlot]]  # a host's cards of one kind, the emptiest first


def by_kind(gpus: Sequence[GpuSlot]) -> dict[Kind, list[GpuSlot]]:
    """Cards by kind, the emptiest first; kinds are never mixed in one stage."""
    found: dict[Kind, list[GpuSlot]] = {}
    for gpu in gpus:
        found.setdefault(gpu.kind, []).append(gpu)
    for cards in found.values():
        cards.sort(key=lambda gpu: (-gpu.free_mb, gpu.index))
    return found


def choose(cards: Sequence[GpuSlot], count: int) -> tuple[GpuSlot, ...]:
    """`count` of `cards`: a fully linked set when there is one around some card, else the first."""
    if 1 < count < len(cards) and cards[0].links:
        for seed in cards:
            near = [seed, *(card for card in cards if card.index in seed.links and card is not seed)][:count]
            if len(near) == count and linked(near):
                return tuple(sorted(near, key=lambda gpu: gpu.index))
    return tuple(sorted(cards[:count], key=lambda gpu: gpu.index))


def stages_of(host: Host, cards: Sequence[GpuSlot], tp: int) -> list[Group]:
    left, found = list(cards), []
    while len(left) >= tp:
        group = choose(left, tp)
        found.append((host, group))
        taken = {gpu.index for gpu in group}
        left = [gpu for gpu in left if gpu.index not in taken]
    return found


def free_mb(stage: Group) -> int:
    """MiB free on the fullest card of a stage."""
    return min(gpu.free_mb for gpu in stage[1])


def room(cards: Sequence[GpuSlot], tp: int) -> tuple[int, int]:
    stages = len(cards) // tp
    return stages, cards[stages * tp - 1].free_mb


def roomiest(able: Sequence[Member], tp: int) -> Iterator[tuple[Group, ...]]:
    """The stages with most free memory first, where the hosts' stages differ in it."""
    first = nlargest(MAX_STAGES_OVER_HOSTS, able, key=lambda item: item[1][tp - 1].free_mb)
    stages = [stage for host, cards in first for stage in stages_of(host, cards, tp)]
    if len(set(map(free_mb, stages))) > 1:
        yield tuple(sorted(stages, key=free_mb, reverse=True))


def same_on_each(stages: Sequence[Group], each: int, hosts: int) -> tuple[Group, ...]:
    """`each` stages on so many hosts, as early in `stages` as may be; none where there are not so many."""
    found: dict[str, list[Group]] = {}
    whole: list[Group] = []
    for stage in stages:
        own = found.setdefault(stage[0].node_id, [])
        if len(own) < each:
            own.append(stage)
            if len(own) == each:
                whole += own
                if len(whole) == each * hosts:
                    return tuple(whole)
    return ()


def unlike_stages(members: Sequence[Member], tp: int) -> Iterator[tuple[Group, ...]]:
    """Stages of several kinds, the largest cards first; once for every share that may be free of all.

    One share serves all engines of a layout, so a fuller card in it takes from every other. Once more with
    one kind of each host: what a host reserves of its smaller cards is the share of its largest.
    """
    for share in _shares(members, tp):
        stages: list[Group] = []
        for host, cards in members:
            stages += stages_of(host, [card for card in cards if _share(card) >= share], tp)
        alone = _one_kind_each(stages)
        for row in (stages, alone) if len(alone) < len(stages) else (stages,):
            if len({cards[0].kind for _host, cards in row}) > 1:
                yield tuple(sorted(row, key=lambda stage: stage[1][0].total_mb, reverse=True))


def _one_kind_each(stages: Sequence[Group]) -> list[Group]:
    """Of each host the stages of the kind that has most memory there."""
    size: dict[str, dict[Kind, int]] = {}
    for host, cards in stages:
        kinds = size.setdefault(host.node_id, {})
        kinds[cards[0].kind] = kinds.get(cards[0].kind, 0) + cards[0].total_mb
    largest = {node_id: max(kinds, key=lambda kind: kinds[kind]) for node_id, kinds in size.items()}
    return [(host, cards) for host, cards in stages if cards[0].kind == largest[host.node_id]]


def _shares(members: Sequence[Member], tp: int) -> list[float]:
    """What may be free of every card of a layout, most first: what is of some card that closes a stage."""
    closing = {_share(cards[at]) for _host, cards in members for at in range(tp - 1, len(cards), tp)}
    found = sorted(closing - {0.0}, reverse=True)
    step = max(1, -(-len(found) // MAX_SHARES))
    return found[::-step][::-1]  # the least is always among them


def _share(card: GpuSlot) -> float:
    return card.free_mb / card.total_mb


def together(stages: Sequence[Group]) -> tuple[Group, ...]:
    """The stages with those of a host side by side, hosts in the order in which they first come."""
    order = {host.node_id: position for position, (host, _cards) in reversed(list(enumerate(stages)))}
    return tuple(sorted(stages, key=lambda stage: order[stage[0].node_id]))
