"""What holds of every plan over hosts whose cards are partly taken by others."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.unit.vllm_orchestrator.shapes import known
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish

# few products, so that cards of several hosts are of one kind and layouts over hosts come up
PRODUCTS = (("RTX 4090", 24_564), ("L40S", 46_068), ("H100", 81_559))
MODELS = (
    "qwen3-0.6b",
    "phi-4",
    "gemma-3-27b",
    "qwen3-32b",
    "llama-3-70b",
    "qwen3-30b-a3b",
    "deepseek-v2-lite",
)
WISHES = (
    Wish(advise=False),
    Wish(advise=False, max_model_len=8192, max_num_seqs=16),
    Wish(advise=False, gpu_memory_utilization=0.8),
    Wish(advise=False, pp=2),
    Wish(advise=False, tp=2),
)
Place = tuple[str, tuple[int, ...]]

profiles = st.sampled_from(MODELS).map(known)
wishes = st.sampled_from(WISHES)


@st.composite
def cards(draw: st.DrawFn, index: int, product: tuple[str, int]) -> GpuSlot:
    name, total = product
    free = draw(st.one_of(st.integers(0, total), st.sampled_from((0, total // 2, total - 600, total))))
    return GpuSlot(index, "nvidia", name, total, free, 8.9)


@st.composite
def partly_used(draw: st.DrawFn) -> list[Host]:
    """One to four hosts of up to four cards, of one product mostly."""
    usual = draw(st.sampled_from(PRODUCTS))
    hosts = []
    for number in range(draw(st.integers(1, 4))):
        products = [
            draw(st.sampled_from((usual, usual, *PRODUCTS))) for _card in range(draw(st.integers(1, 4)))
        ]
        gpus = tuple(draw(cards(index, product)) for index, product in enumerate(products))
        hosts.append(Host(f"n{number}", gpus, 64_000, 50_000, 8))
    return hosts


def planned(profile: ModelProfile, hosts: list[Host], wish: Wish) -> Plan | NoFit:
    return plan(Model(vllm=profile), hosts, wish)


def of_one_kind(hosts: list[Host], places: Sequence[Place], tp: int) -> bool:
    """Whether every `tp` cards in turn are of one product."""
    names = {(host.node_id, gpu.index): gpu.name for host in hosts for gpu in host.gpus}
    return all(
        len({names[node, index] for index in indices[at : at + tp]}) == 1
        for node, indices in places
        for at in range(0, len(indices), tp)
    )


@settings(max_examples=80)
@given(profiles, partly_used(), wishes)
def test_no_card_is_asked_for_more_than_it_has_free_and_hosts_hold_alike(
    profile: ModelProfile, hosts: list[Host], wish: Wish
) -> None:
    found = planned(profile, hosts, wish)
    event(f"hosts: {len(found.places) if isinstance(found, Plan) else 'none fits'}")
    if isinstance(found, Plan):
        free = {(host.node_id, gpu.index): gpu.free_mb for host in hosts for gpu in host.gpus}
        taken = [
            (place.node_id, index, place.reserved_mb) for place in found.places for index in place.gpu_indices
        ]
        assert all(0 < mb <= free[node, index] for node, index, mb in taken)
        assert len({(node, index) for node, index, _mb in taken}) == found.tp * found.pp
        assert len({len(place.gpu_indices) for place in found.places}) == 1, "vLLM deals its ranks out evenly"


@settings(max_examples=80)
@given(profiles, partly_used(), wishes)
def test_no_stage_mixes_kinds_in_the_plan_or_in_an_alternative(
    profile: ModelProfile, hosts: list[Host], wish: Wish
) -> None:
    found = planned(profile, hosts, wish)
    if isinstance(found, Plan):
        assert of_one_kind(hosts, [(place.node_id, place.gpu_indices) for place in found.places], found.tp)
        for option in found.alternatives:
            places = [(place["node_id"], tuple(place["gpu_indices"])) for place in option["placement"]]
            assert of_one_kind(hosts, places, option["tensor_parallel_size"])


@settings(max_examples=80)
@given(profiles, partly_used(), wishes, st.data())
def test_memory_that_gets_free_never_turns_a_fit_into_none(
    profile: ModelProfile, hosts: list[Host], wish: Wish, data: st.DataObject
) -> None:
    found = planned(profile, hosts, wish)
    freed = [
        replace(
            host,
            gpus=tuple(
                replace(gpu, free_mb=data.draw(st.integers(gpu.free_mb, gpu.total_mb))) for gpu in host.gpus
            ),
        )
        for host in hosts
    ]
    after = planned(profile, freed, wish)
    assert isinstance(after, Plan) or isinstance(found, NoFit)


@settings(max_examples=80)
@given(profiles, partly_used(), wishes)
def test_every_layout_that_is_refused_has_its_reason(
    profile: ModelProfile, hosts: list[Host], wish: Wish
) -> None:
    found = planned(profile, hosts, wish)
    assert all(each.layout and each.reason for each in found.rejected)
    labels = [each.layout for each in found.rejected]
    assert len(labels) == len(set(labels))
    if isinstance(found, NoFit):
        assert found.reason
        assert found.shortfall


def test_a_share_that_is_not_free_is_refused_with_what_is_short() -> None:
    """vLLM would not start: it takes its share of the whole card, however little it needs."""
    used = Host("n", (GpuSlot(0, "nvidia", "RTX 4090", 24_564, 12_000, 8.9),), 64_000, 50_000, 8)
    found = planned(known("qwen3-0.6b"), [used], Wish(gpu_memory_utilization=0.8))
    assert isinstance(found, NoFit)
    assert "the share of 0.8 that was asked for is not free" in found.reason
    assert "7652 MiB short" in found.reason
    assert isinstance(planned(known("qwen3-0.6b"), [used], Wish(gpu_memory_utilization=0.4)), Plan)


def test_unlike_hosts_are_taken_by_the_share_that_is_free_of_all() -> None:
    """The second H100 has as much free as the L40S, but less of it: with it in the layout all give less."""
    full = tuple(GpuSlot(index, "nvidia", "H100", 81_559, 21_687, 9.0) for index in range(1, 4))
    hosts = [
        Host("a", (GpuSlot(0, "nvidia", "L40S", 46_068, 21_687, 8.9), *full)),
        Host("b", (GpuSlot(0, "nvidia", "H100", 81_559, 38_395, 9.0),)),
    ]
    wish = Wish(max_model_len=8192, max_num_seqs=16, advise=False)
    found = planned(known("gemma-3-27b"), hosts, wish)
    assert isinstance(found, Plan), found
