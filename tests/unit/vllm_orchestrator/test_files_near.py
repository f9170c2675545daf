"""Where a model's files are decides between places that are as good otherwise, and never more than that."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_common.enums import EngineKind
from tests.unit.vllm_orchestrator.shapes import H100, RTX_4090, host, known
from tests.unit.vllm_orchestrator.test_planner_properties import MODELS, fleets
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import Host, folded
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish

QUIET = Wish(advise=False)
SMALL = known("qwen3-0.6b")
GGUF = known("smollm2", gguf=True, weight_bytes=98_362_432, location="/m/smol.gguf")


def having(one: Host, *profiles: ModelProfile) -> Host:
    return replace(one, models=frozenset(folded(profile.name) for profile in profiles))


def nodes(found: Plan | NoFit) -> list[str]:
    assert isinstance(found, Plan), found
    return [place.node_id for place in found.places]


def test_of_two_alike_the_one_with_the_files() -> None:
    hosts = [host("a", 2, H100), having(host("b", 2, H100), SMALL)]
    found = plan(Model(vllm=SMALL), hosts, QUIET)
    assert nodes(found) == ["b"]
    assert isinstance(found, Plan)
    assert "Its files are there." in found.explanation


def test_files_count_more_than_measured_speed() -> None:
    fast = replace(host("a", 2, H100), measured=((SMALL.name, 900.0),))
    assert nodes(plan(Model(vllm=SMALL), [fast, host("b", 2, H100)], QUIET)) == ["a"]
    assert nodes(plan(Model(vllm=SMALL), [fast, having(host("b", 2, H100), SMALL)], QUIET)) == ["b"]


def test_fewer_hosts_count_more_than_files() -> None:
    model = known("llama-3-70b")
    far = [having(host(name, 2, RTX_4090), model) for name in ("a", "b", "c", "d")]
    found = plan(Model(vllm=model), [*far, host("whole", 8, H100)], QUIET)
    assert nodes(found) == ["whole"]
    assert isinstance(found, Plan)
    assert "fetched to whole first (a has them)" in found.explanation


def test_of_several_hosts_those_with_the_files() -> None:
    model = known("deepseek-r1")
    hosts = [host("a", 8, H100), host("b", 8, H100), *(having(host(n, 8, H100), model) for n in ("c", "d"))]
    assert sorted(nodes(plan(Model(vllm=model), hosts, QUIET))) == ["c", "d"]


@pytest.mark.parametrize("wish", [QUIET, Wish(engine=EngineKind.LLAMA_CPP, advise=False)])
def test_a_gguf_goes_to_another_host_that_has_it(wish: Wish) -> None:
    here = Host("here", (), 16_000, 9_000, 8)
    there = replace(here, node_id="there", threads=2)
    assert nodes(plan(Model(gguf=GGUF), [here, there], wish)) == ["here"]
    assert nodes(plan(Model(gguf=GGUF), [here, having(there, GGUF)], wish)) == ["there"]
    full = having(replace(there, ram_available_mb=50), GGUF)
    assert nodes(plan(Model(gguf=GGUF), [here, full], wish)) == ["here"]


@settings(max_examples=150)
@given(st.sampled_from(MODELS).map(known), fleets(), st.data())
def test_it_never_costs_a_fit_a_host_or_context(
    profile: ModelProfile, hosts: list[Host], data: st.DataObject
) -> None:
    plain = plan(Model(vllm=profile), hosts, QUIET)
    has = data.draw(st.sets(st.sampled_from([each.node_id for each in hosts])))
    near = [having(each, profile) if each.node_id in has else each for each in hosts]
    found = plan(Model(vllm=profile), near, QUIET)
    assert isinstance(found, Plan) or isinstance(plain, NoFit)
    if isinstance(found, Plan) and isinstance(plain, Plan):
        assert found.max_model_len >= plain.max_model_len
        if found.max_model_len == plain.max_model_len:
            assert len(found.places) <= len(plain.places)


@given(st.lists(st.tuples(st.integers(0, 4000), st.booleans()), min_size=1, max_size=5))
def test_nor_on_ram(rooms: list[tuple[int, bool]]) -> None:
    hosts = [Host(f"n{number}", (), 16_000, room, 4) for number, (room, _has) in enumerate(rooms)]
    near = [having(one, GGUF) if has else one for one, (_room, has) in zip(hosts, rooms, strict=True)]
    plain, found = plan(Model(gguf=GGUF), hosts, QUIET), plan(Model(gguf=GGUF), near, QUIET)
    assert isinstance(found, Plan) is isinstance(plain, Plan)
    if isinstance(found, Plan) and isinstance(plain, Plan):
        assert found.max_model_len == plain.max_model_len
