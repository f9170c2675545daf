"""The placements a planner should find (reference data, re-stated from another scheduler's tests)."""

from dataclasses import replace

import pytest

from compute_common.enums import EngineKind, Strategy
from tests.unit.vllm_orchestrator.shapes import CARD_64, H100, H200, RTX_4080, RTX_4090, host, known
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import GpuSlot, Host
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish


def found(profile: ModelProfile, hosts: list[Host], wish: Wish = Wish()) -> Plan:  # noqa: B008
    result = plan(Model(vllm=profile), hosts, wish)
    assert isinstance(result, Plan), result
    return result


def refused(profile: ModelProfile, hosts: list[Host], wish: Wish = Wish()) -> NoFit:  # noqa: B008
    result = plan(Model(vllm=profile), hosts, wish)
    assert isinstance(result, NoFit), result
    return result


def test_deepseek_r1_over_two_of_four_h100_hosts() -> None:
    hosts = [host("a", 1, RTX_4090), host("b", 1, RTX_4090), *(host(f"h{i}", 8, H100) for i in range(4))]
    result = found(known("deepseek-r1"), hosts)
    assert (result.tp, result.pp, result.strategy) == (8, 2, Strategy.HYBRID_TP_PP)
    assert len(result.places) == 2


def test_deepseek_v32_on_one_h200_host() -> None:
    result = found(known("deepseek-v3.2"), [host("h", 8, H200)])
    assert (result.tp, result.pp, result.strategy) == (8, 1, Strategy.TENSOR_PARALLEL)


def test_qwen3_30b_on_two_64_gb_cards() -> None:
    result = found(known("qwen3-30b-a3b"), [host("h", 8, CARD_64)])
    assert (result.tp, result.pp) == (2, 1)


def test_three_stages_over_three_hosts_when_asked() -> None:
    result = found(known("qwen3-0.6b"), [host(name, 1, RTX_4090) for name in "abc"], Wish(pp=3))
    assert result.strategy is Strategy.PIPELINE_PARALLEL
    assert [len(place.gpu_indices) for place in result.places] == [1, 1, 1]


def test_qwen3_32b_on_a_4090_names_the_shortfall_and_what_would_fit() -> None:
    result = refused(known("qwen3-32b"), [host("h", 1, RTX_4090)])
    shortfall = result.shortfall
    assert shortfall["required_mb_per_gpu"] - shortfall["usable_mb_per_gpu"] == shortfall["short_mb_per_gpu"]
    assert f"{shortfall['short_mb_per_gpu']} MiB per GPU short" in result.reason
    assert any("AWQ" in option["change"] for option in result.alternatives)


def test_qwen3_32b_on_four_4080_is_offered_quantised() -> None:
    result = refused(known("qwen3-32b"), [host("h", 4, RTX_4080)])
    assert any("4-bit" in option["change"] for option in result.alternatives)


def test_25_heads_on_four_cards_only_as_a_pipeline() -> None:
    odd = known("qwen3-32b", heads=25, kv_heads=5, parameters=0, layers=24)
    result = found(odd, [host("h", 4, RTX_4080)])
    assert (result.tp, result.strategy) == (1, Strategy.PIPELINE_PARALLEL)
    reasons = {each.layout: each.reason for each in result.rejected}
    assert "25 attention heads" in reasons["TP 2 x PP 1"]
    assert "25 attention heads" in reasons["TP 4 x PP 1"]


def test_a_vision_tower_with_16_heads_refuses_tp_6() -> None:
    seeing = known("qwen2.5-7b", heads=48, kv_heads=6, intermediate=18_432, vocab=152_064, vision_heads=16)
    result = refused(seeing, [host("h", 6, RTX_4090)], Wish(tp=6, pp=1))
    assert "vision tower's 16 heads" in result.reason


def test_vendors_are_never_mixed() -> None:
    size = RTX_4090 >> 20
    mixed = Host("m", (GpuSlot(0, "nvidia", "n", size, size), GpuSlot(1, "amd", "a", size, size)))
    result = refused(known("phi-4"), [mixed], Wish(tp=2))
    assert "GPUs of one kind" in result.reason


def test_two_small_instances_share_a_card() -> None:
    first = found(known("qwen3-0.6b"), [host("h", 1, RTX_4090)])
    taken = first.places[0].reserved_mb
    size = RTX_4090 >> 20
    rest = Host("h", (GpuSlot(0, "nvidia", "card", size, size - taken),))
    second = found(known("qwen3-0.6b"), [rest])
    assert taken + second.places[0].reserved_mb <= size
    assert first.utilization is not None
    assert first.utilization < 0.5


def test_phi_4_never_over_four_cards_by_tensor() -> None:
    hosts = [host("h", 4, RTX_4090)]
    assert (found(known("phi-4"), hosts).tp, found(known("phi-4"), hosts).pp) == (2, 1)
    assert "10 KV heads" in refused(known("phi-4"), hosts, Wish(tp=4)).reason


def test_an_fp8_block_bounds_tensor_parallel() -> None:
    fp8 = known("qwen3-30b-a3b-fp8")
    hosts = [host("h", 8, RTX_4090)]
    assert found(fp8, hosts).tp in (1, 2)
    for degree in (4, 8):
        dealt = found(fp8, hosts, Wish(tp=degree))
        assert dealt.expert_parallel
        assert (
            "quantisation block of 128"
            in {each.layout: each.reason for each in dealt.rejected}[f"TP {degree} x PP {dealt.pp}"]
        )


def test_the_specifications_own_model() -> None:
    result = found(known("meta-llama/Llama-3-70B"), [host("h", 2, H100)])
    assert (result.strategy, result.tp, result.max_model_len) == (Strategy.TENSOR_PARALLEL, 2, 8192)


def test_no_gpu_says_how_much_is_missing() -> None:
    result = refused(known("llama-3-70b"), [Host("cpu", (), 24_000, 23_000)])
    assert result.shortfall["available_total_mb"] == 0
    assert result.shortfall["short_mb"] > 134_000
    assert any(option["change"] == "a host with 2 x 80 GB GPU" for option in result.alternatives)


def test_a_gguf_goes_to_ram_where_no_gpu_host_has_vllm() -> None:
    gguf = known("smollm2", gguf=True, weight_bytes=98_362_432, quantization="Q4_1")
    both = Model(vllm=known("smollm2"), gguf=gguf)
    cpu = Host("cpu", (), 24_000, 23_000, 2)
    chosen = plan(both, [cpu], Wish())
    assert isinstance(chosen, Plan)
    assert (chosen.engine, chosen.strategy) == (EngineKind.LLAMA_CPP, Strategy.CPU)

    with_gpu = host("gpu", 1, RTX_4090)
    chosen = plan(both, [with_gpu], Wish())
    assert isinstance(chosen, Plan)
    assert (chosen.engine, chosen.strategy) == (EngineKind.VLLM, Strategy.SINGLE_GPU)
    without_vllm = replace(with_gpu, engines=frozenset({EngineKind.LLAMA_CPP}))
    chosen = plan(both, [without_vllm], Wish())
    assert isinstance(chosen, Plan)
    assert chosen.engine is EngineKind.LLAMA_CPP


def test_ram_that_is_short_is_named_in_mib() -> None:
    gguf = known("smollm2", gguf=True, weight_bytes=98_362_432)
    result = plan(Model(gguf=gguf), [Host("tiny", (), 512, 150)], Wish())
    assert isinstance(result, NoFit)
    assert result.shortfall["required_mb"] - 150 == result.shortfall["short_mb"]


@pytest.mark.parametrize("wish", [Wish(max_model_len=9000), Wish(max_model_len=1 << 20)])
def test_a_context_longer_than_the_model_is_refused(wish: Wish) -> None:
    result = refused(known("llama-3-70b"), [host("h", 8, H100)], wish)
    assert "8192" in result.reason


def test_a_linked_pair_is_preferred() -> None:
    size = 46_068
    pairs = {0: 3, 3: 0, 1: 2, 2: 1}
    gpus = tuple(GpuSlot(i, "nvidia", "A40", size, size, 8.6, frozenset({pairs[i]})) for i in range(4))
    result = found(known("qwen2.5-32b"), [Host("h", gpus)])
    assert result.tp == 2
    assert set(result.places[0].gpu_indices) in ({0, 3}, {1, 2})


def test_an_old_card_is_refused_by_its_capability() -> None:
    gpus = (GpuSlot(0, "nvidia", "P40", 24_576, 24_576, 6.1),)
    assert "compute capability 6.1" in refused(known("qwen3-0.6b"), [Host("h", gpus)]).reason


def test_a_full_card_beside_a_free_one_is_no_obstacle() -> None:
    """Two hosts, one of them with a card that somebody else has filled: one free card of each."""
    size = 46_068
    free, full = (GpuSlot(index, "nvidia", "L40S", size, left) for index, left in ((0, size), (1, 0)))
    hosts = [Host("a", (free, full), 64_000, 50_000, 8), Host("b", (free,), 64_000, 50_000, 8)]
    result = found(known("gemma-3-27b"), hosts)
    assert {(place.node_id, place.gpu_indices) for place in result.places} == {("a", (0,)), ("b", (0,))}
