"""Planning vLLM over GPUs: every shape the model allows, on the best cards for each, cheapest first."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.attempt import Attempt, Memory, claim_mb, need_mb
from vllm_orchestrator.planning.explain import as_alternative, as_plan, no_fit, why_short
from vllm_orchestrator.planning.feasibility import why_not
from vllm_orchestrator.planning.files import hosts_with
from vllm_orchestrator.planning.inventory import GpuSlot, Host, Kind
from vllm_orchestrator.planning.layouts import Fleet, Layout, Shape, wanted
from vllm_orchestrator.planning.result import NoFit, Plan, Rejected, Wish, to_mib
from vllm_orchestrator.planning.several_hosts import said, uses_ray
from vllm_orchestrator.planning.speed import measured_speed
from vllm_orchestrator.planning.stages import MAX_STAGES_OVER_HOSTS, Group, free_mb, same_on_each, together
from vllm_orchestrator.planning.weights import whole_weight_bytes

SHORTEST_CONTEXT = 4096
MAX_REJECTED = 200
MAX_ALTERNATIVES = 8

__all__ = ["SHORTEST_CONTEXT", "asked_for", "plan_gpu"]


def plan_gpu(profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> Plan | NoFit:
    """The best layout of `profile` over the GPUs of `hosts`, the next best, and why others are not; or what
    is short.

    One host before several, cards of one kind before several, the whole context before a shortened one (when
    none was asked for), tensor parallel before stages, fewest cards.
    """
    profile = asked_for(profile, wish)
    hosts = [_asked_cards(host, wish) for host in hosts if wish.node_id in (None, host.node_id)]
    hosts = [host for host in hosts if host.gpus]
    search = _Search(profile, hosts, wish)
    for level in (search.one_host, search.one_host_mixed, search.over_hosts):
        found = level()
        if found:
            best, *others = sorted(found, key=search.cost)
            others = sorted(others, key=search.cost)[:MAX_ALTERNATIVES]
            found_plan = as_plan(profile, wish, best)
            spare = search.spare_replicas(best, found_plan)
            words = f" The GPUs left over hold {spare} more such replicas." if spare else ""
            return said(
                replace(
                    found_plan,
                    spare_replicas=spare,
                    explanation=found_plan.explanation + words,
                    rejected=search.rejections(),
                    alternatives=tuple(as_alternative(profile, other) for other in others),
                )
            )
    return no_fit(profile, wish, hosts, search.closest, search.rejections())


def _asked_cards(host: Host, wish: Wish) -> Host:
    """The host with only the cards that were asked for by index."""
    if wish.gpu_indices is None:
        return host
    return replace(host, gpus=tuple(gpu for gpu in host.gpus if gpu.index in wish.gpu_indices))


def asked_for(profile: ModelProfile, wish: Wish) -> ModelProfile:
    """The profile under the asked-for dtype and quantisation."""
    if wish.quantization and wish.quantization.lower() != profile.quantization:
        method = wish.quantization.lower()
        profile = replace(profile, quantization=method, weight_bytes=0, bits=0, group_size=0, weight_block=0)
    if wish.dtype and wish.dtype != "auto" and profile.quantization is None and not profile.weight_bytes:
        profile = replace(profile, dtype=wish.dtype)
    return profile


class _Search:
    def __init__(self, profile: ModelProfile, hosts: Sequence[Host], wish: Wish) -> None:
        self.profile = profile
        self.wish = wish
        self._with_files = hosts_with(profile, hosts)
        self.fleet = Fleet(hosts, self._with_files)
        self.memory = Memory(profile, wish)
        self.closest: Attempt | None = None
        self._rejected: dict[str, str] = {}
        self._weights_mb = to_mib(whole_weight_bytes(profile))
        self._speeds = {host.node_id: speed for host in hosts if (speed := measured_speed(profile, host))}

    def cost(self, attempt: Attempt) -> tuple[object, ...]:
        """Fewest hosts, one kind, TP before PP, fewest cards and stages, links, files, speed, least left."""
        layout = attempt.layout
        shape, cards = layout.shape, layout.gpus
        return (
            len(layout.groups),
            layout.mixed,
            shape.pp if len(layout.groups) > 1 else shape.pp > 1,
            len(cards),
            shape.pp,
            shape.tp > 1 and not cards[0].links,
            sum(host.node_id not in self._with_files for host, _group in layout.groups),
            -min(self._speeds.get(host.node_id, 0.0) for host, _group in layout.groups),
            sum(gpu.free_mb for gpu in cards),
            -min(gpu.bandwidth_gb_s or 0.0 for gpu in cards),
        )

    def spare_replicas(self, best: Attempt, chosen: Plan) -> int:
        """Copies of a layout of one host on other cards; copies that share a card are not counted."""
        layout = best.layout
        if len(layout.groups) > 1 or layout.mixed:
            return 0
        least = max(place.reserved_mb for place in chosen.places)
        return max(0, self.fleet.copies(layout.gpus[0].kind, len(layout.gpus), least) - 1)

    def one_host(self) -> list[Attempt]:
        """Cards of one kind on one host."""
        shapes = [
            (kind, shape)
            for kind in self.fleet.kinds
            for shape in self._allowed(self.fleet.most_cards(kind), self.fleet.sample(kind))
        ]
        return self._longest(lambda length: self._on_one_host(shapes, length))

    def _on_one_host(self, shapes: Sequence[tuple[Kind, Shape]], length: int) -> Iterator[Attempt]:
        for kind, shape in shapes:
            cards = shape.tp * shape.pp
            sample = self.fleet.sample(kind)
            need = need_mb(self.memory.uniform(shape, sample, length))
            for place in self._places(kind, cards, need, sample):
                attempt = self.memory.attempt(_layout(shape, place), length)
                if attempt.short_mb <= 0:
                    yield attempt
                    break
                self._note(attempt)

    def _places(self, kind: Kind, cards: int, need: int, sample: GpuSlot) -> Iterator[Group]:
        """The best place; a second one where the first was preferred for its files, and may not do."""
        place = self._placed(kind, cards, need, sample) or self.fleet.emptiest(kind, cards)
        if place is not None:
            yield place
        if place is not None and place[0].node_id in self._with_files:
            other = self._placed(kind, cards, need, sample, prefer_files=False)
            if other is not None and other[0] is not place[0]:
                yield other

    def _placed(
        self, kind: Kind, cards: int, need: int, sample: GpuSlot, *, prefer_files: bool = True
    ) -> Group | None:
        if need > int(sample.total_mb * self.memory.share):
            return None
        # vLLM refuses to start when less than the asked share is free, so an asked share is all or nothing
        asked = self.wish.gpu_memory_utilization
        least = need if asked is None else claim_mb(asked, [sample])
        return self.fleet.best(kind, cards, least, self._speeds, prefer_files=prefer_files)

    def one_host_mixed(self) -> list[Attempt]:
        """Stages on unlike cards of one host."""
        rows = list(self._mixed(one_host=True))
        return self._longest(lambda length: self._tried(rows, length))

    def over_hosts(self) -> list[Attempt]:
        """Stages over hosts: cards of one kind, else of unlike kinds."""
        rows = list(self._alike())
        alike = self._longest(lambda length: self._tried(rows, length))
        if alike:
            return alike
        mixed = list(self._mixed(one_host=False))
        return self._longest(lambda length: self._tried(mixed, length))

    def _alike(self) -> Iterator[list[Layout]]:
        for tp in self._degrees():
            for stages in self.fleet.over_hosts(tp):
                yield list(self._over(tp, stages))

    def _mixed(self, *, one_host: bool) -> Iterator[list[Layout]]:
        rows = self.fleet.on_one_host_mixed if one_host else self.fleet.over_hosts_mixed
        cut = self._prefixes if one_host else self._over
        for tp in self._degrees():
            for stages in rows(tp):
                yield [one for one in cut(tp, stages) if one.mixed]

    def _prefixes(self, tp: int, stages: Sequence[Group]) -> Iterator[Layout]:
        """The first 2, 3, … of the stages, from where they can hold the weights at all."""
        most = min(len(stages), MAX_STAGES_OVER_HOSTS)
        for pp in range(2, most + 1):
            if self._holds_weights(stages[:pp], last=pp == most):
                yield from self._layouts(tp, stages[:pp])

    def _over(self, tp: int, stages: Sequence[Group]) -> Iterator[Layout]:
        """The first 2, 3, … of the stages, as many on each host: vLLM's ranks are dealt out evenly.

        Ray deals them out as they come, so there any first ones will do.
        """
        most = min(len(stages), MAX_STAGES_OVER_HOSTS)
        for pp in range(2, most + 1):
            each_host = [each for each in range(pp // 2, 0, -1) if pp % each == 0]
            ways = [same_on_each(stages, each, pp // each) for each in each_host]
            if uses_ray(self.wish) and len({host.node_id for host, _cards in stages[:pp]}) > 1:
                ways.append(tuple(stages[:pp]))
            for way in ways:
                if way and self._holds_weights(way, last=pp == most):
                    yield from self._layouts(tp, way)

    def _holds_weights(self, stages: Sequence[Group], *, last: bool) -> bool:
        """Whether they could at all; the last are looked at anyway, so that there is a nearest layout."""
        return last or sum(len(stage[1]) * free_mb(stage) for stage in stages) >= self._weights_mb

    def _layouts(self, tp: int, stages: Sequence[Group]) -> Iterator[Layout]:
        for shape in self._variants(tp, len(stages), stages[0][1][0]):
            yield Layout(shape, together(stages))

    def _tried(self, rows: Iterable[list[Layout]], length: int) -> Iterator[Attempt]:
        """Of each row, which goes from few stages to many, the first that fits."""
        for row in rows:
            for layout in row:
                attempt = self.memory.attempt(layout, length)
                if attempt.short_mb <= 0:
                    yield attempt
                    break
                self._note(attempt)

    def _longest(self, tried: Callable[[int], Iterator[Attempt]]) -> list[Attempt]:
        """What fits at the longest context at which anything does."""
        whole, *shorter = self._lengths()
        found = list(tried(whole))
        if found or not shorter:
            return found
        at_least = list(tried(shorter[-1]))  # mostly nothing, and then the lengths between need no look
        for length in shorter[:-1] if at_least else ():
            found = list(tried(length))
            if found:
                return found
        return at_least

    def _lengths(self) -> list[int]:
        if self.wish.max_model_len is not None:
            return [self.wish.max_model_len]
        lengths = [self.profile.max_len]
        while lengths[-1] // 2 >= SHORTEST_CONTEXT:
            lengths.append(lengths[-1] // 2)
        return lengths

    def _degrees(self) -> list[int]:
        most = max((self.fleet.most_cards(kind) for kind in self.fleet.kinds), default=0)
        return [tp for tp in range(1, most + 1) if self.wish.tp in (None, tp)]

    def _allowed(self, most: int, sample: GpuSlot) -> Iterator[Shape]:
        for cards in range(1, most + 1):
            for tp in range(1, cards + 1):
                if cards % tp == 0:
                    yield from self._variants(tp, cards // tp, sample)

    def _variants(self, tp: int, pp: int, sample: GpuSlot) -> Iterator[Shape]:
        """The shape when the model allows it; with whole experts where only splitting them is in the way."""
        shape = Shape(tp, pp)
        if not wanted(shape, self.wish):
            return
        profile, card, dtype = self.profile, sample.capability, self.wish.dtype
        reason = why_not(profile, tp, pp, card, dtype=dtype)
        if reason is None:
            yield shape
            return
        self._rejected.setdefault(shape.label, reason)
        whole = profile.experts and tp > 1
        if whole and why_not(profile, tp, pp, card, dtype=dtype, whole_experts=True) is None:
            yield Shape(tp, pp, expert_parallel=True)

    def _note(self, attempt: Attempt) -> None:
        self._rejected[attempt.layout.label] = why_short(attempt)
        if self.closest is None or attempt.short_mb < self.closest.short_mb:
            self.closest = attempt

    def rejections(self) -> tuple[Rejected, ...]:
        return tuple(Rejected(*item) for item in list(self._rejected.items())[:MAX_REJECTED])


def _layout(shape: Shape, place: Group) -> Layout:
    host, cards = place
    stages = tuple((host, cards[at : at + shape.tp]) for at in range(0, len(cards), shape.tp))
    return Layout(shape, stages)
