"""What holds of every plan, whatever the fleet."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vllm_orchestrator.shapes import known
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.memory import stage_layers
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish

PRODUCTS = (("RTX 4090", 24_564), ("RTX 3090", 24_576), ("L40S", 46_068), ("H100", 81_559), ("T4", 15_360))
MODELS = (
    "qwen3-0.6b",
    "llama-3-8b",
    "qwen3-30b-a3b-fp8",
    "llama-3-70b",
    "deepseek-v2-lite",
    "gemma-3-27b",
    "phi-4",
)


@st.composite
def cards(draw: st.DrawFn, index: int) -> GpuSlot:
    name, total = draw(st.sampled_from(PRODUCTS))
    free = draw(st.one_of(st.just(total), st.integers(0, total)))
    links = draw(st.frozensets(st.integers(0, 3), max_size=3)) - {index}
    return GpuSlot(index, "nvidia", name, total, free, 8.9, links)


@st.composite
def fleets(draw: st.DrawFn) -> list[Host]:
    hosts = []
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.integers(0, 4))
        hosts.append(
            Host(f"n{number}", tuple(draw(cards(index)) for index in range(count)), 64_000, 50_000, 8)
        )
    return hosts


profiles = st.sampled_from(MODELS).map(known)


def planned(profile: ModelProfile, hosts: list[Host], wish: Wish | None = None) -> Plan | NoFit:
    return plan(Model(vllm=profile), hosts, wish or Wish(advise=False))


@given(profiles, fleets())
def test_no_rank_takes_more_than_its_card_has_free(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        free = {(host.node_id, gpu.index): gpu.free_mb for host in hosts for gpu in host.gpus}
        for place in found.places:
            for index in place.gpu_indices:
                assert 0 < place.reserved_mb <= free[place.node_id, index]
        assert found.memory.fixed + found.kv_cache_bytes <= max(p.reserved_mb for p in found.places) << 20
        assert found.kv_cache_tokens >= found.max_model_len


@given(profiles, fleets())
def test_a_plan_names_each_gpu_once_and_one_per_rank(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        named = [(place.node_id, index) for place in found.places for index in place.gpu_indices]
        assert len(named) == len(set(named)) == found.tp * found.pp
        assert len({place.node_id for place in found.places}) == len(found.places)


@given(profiles, fleets())
def test_no_tensor_parallel_stage_mixes_kinds(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        names = {(host.node_id, gpu.index): gpu.name for host in hosts for gpu in host.gpus}
        for place in found.places:
            indices = place.gpu_indices
            for at in range(0, len(indices), found.tp):
                assert len({names[place.node_id, index] for index in indices[at : at + found.tp]}) == 1


@given(profiles, fleets())
def test_layers_are_all_dealt_out(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        layers = found.stage_layers or stage_layers(profile.layers, found.pp)
        assert sum(layers) == profile.layers
        assert min(layers) >= 1


@settings(max_examples=60)
@given(profiles, fleets(), st.data())
def test_another_gpu_never_turns_a_fit_into_none(
    profile: ModelProfile, hosts: list[Host], data: st.DataObject
) -> None:
    if isinstance(planned(profile, hosts), Plan):
        host = data.draw(st.sampled_from(hosts))
        name, total = data.draw(st.sampled_from(PRODUCTS))
        more = replace(host, gpus=(*host.gpus, GpuSlot(9, "nvidia", name, total, total, 8.9)))
        grown = [more if each is host else each for each in hosts]
        assert isinstance(planned(profile, grown), Plan)


@settings(max_examples=60)
@given(profiles, fleets())
def test_a_shorter_context_never_turns_a_fit_into_none(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        shorter = Wish(max_model_len=max(1, found.max_model_len // 2), advise=False)
        assert isinstance(planned(profile, hosts, shorter), Plan)


@settings(max_examples=60)
@given(profiles, fleets())
def test_every_alternative_is_another_layout_that_fits(profile: ModelProfile, hosts: list[Host]) -> None:
    found = planned(profile, hosts)
    if isinstance(found, Plan):
        assert all(option["spare_mb_per_gpu"] >= 0 for option in found.alternatives)
        labels = [option["change"] for option in found.alternatives]
        assert len(labels) == len(set(labels))
        assert not set(labels) & {each.layout for each in found.rejected}
