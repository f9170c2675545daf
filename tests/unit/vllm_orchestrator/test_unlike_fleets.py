"""Unlike cards, slices, partly used and measured hosts, and what a host's detector recommends."""

from dataclasses import replace
from typing import Any

import pytest

from compute_common.schemas.vllm import InventoryNode
from tests.unit.vllm_orchestrator.shapes import H100, RTX_4090, host, known
from vllm_orchestrator.models.profile import ModelProfile
from vllm_orchestrator.planning.inventory import Advice, GpuSlot, Host, host_of_document
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish
from vllm_orchestrator.rendering.argv import Serving, engine_argv, engine_environment

SERVING = Serving(["m"], "m", "127.0.0.1", 18_000)


def card(index: int, name: str, total: int, **changes: Any) -> GpuSlot:
    return replace(GpuSlot(index, "nvidia", name, total, total, 8.9), **changes)


def found(profile: ModelProfile, hosts: list[Host], wish: Wish | None = None) -> Plan:
    result = plan(Model(vllm=profile), hosts, wish or Wish())
    assert isinstance(result, Plan), result
    return result


def document(**gpu: Any) -> InventoryNode:
    body = {"node_id": "n", "hostname": "n", "memory": {"total_mb": 64_000}, "gpus": [gpu]}
    return InventoryNode.model_validate(body)


def test_unlike_hosts_hold_unequal_stages_by_memory() -> None:
    small = Host("small", (card(0, "RTX 4080", 16_376),))
    big = Host("big", (card(0, "L40S", 46_068),))
    result = found(known("qwen3-14b", max_len=8192), [small, big], Wish(pp=2, max_num_seqs=16))
    assert len(result.places) == 2
    assert sum(result.stage_layers or (20, 20)) == 40
    bigger = Host("big", (card(0, "L40S of another size", 60_000),))
    tight = found(known("qwen2.5-32b", max_len=4096), [small, bigger], Wish(max_num_seqs=16))
    by_host = dict(zip([place.node_id for place in tight.places], tight.stage_layers, strict=True))
    assert by_host["big"] > 2 * by_host["small"]
    assert engine_environment(tight)["VLLM_PP_LAYER_PARTITION"] == ",".join(map(str, tight.stage_layers))


def test_unlike_cards_of_one_host_are_stages_never_one_stage() -> None:
    mixed = Host("h", (card(0, "RTX 4090", 24_564), card(1, "RTX 3090", 24_576)))
    result = found(known("qwen2.5-14b", max_len=8192), [mixed])
    assert (result.tp, result.pp, sorted(result.places[0].gpu_indices)) == (1, 2, [0, 1])


def test_partly_used_cards_are_left_for_emptier_ones() -> None:
    half = Host("h", (card(0, "L40S", 46_068, free_mb=9_000), card(1, "L40S", 46_068)))
    assert found(known("llama-3-8b"), [half]).places[0].gpu_indices == (1,)


def test_measured_speed_breaks_ties() -> None:
    slow = replace(host("slow", 1, H100), measured=(("Qwen/Qwen3-8B", 80.0),))
    fast = replace(host("fast", 1, H100), measured=(("Qwen/Qwen3-8B", 95.0),))
    result = found(known("qwen3-8b"), [slow, fast, host("other", 1, H100)])
    assert result.places[0].node_id == "fast"
    assert result.tokens_per_s == 95.0
    assert "95 output tokens/s were measured" in result.explanation


def test_spare_gpus_are_replicas() -> None:
    assert found(known("llama-3-70b"), [host("a", 8, H100), host("b", 4, H100)]).spare_replicas == 5


def test_slices_are_planned_one_by_one() -> None:
    slices = [{"uuid": f"MIG-{n}", "name": "3g.40gb", "vram_mb": 40_448} for n in range(2)]
    sliced = host_of_document(
        document(name="NVIDIA A100-SXM4-80GB", vram_mb=81_920, schedulable=False, slices=slices)
    )
    assert [(gpu.index, gpu.total_mb) for gpu in sliced.gpus] == [(100, 40_448), (101, 40_448)]
    result = found(known("llama-3-8b"), [sliced])
    assert (result.tp, result.pp) == (1, 1)
    assert engine_environment(result)["CUDA_VISIBLE_DEVICES"] == "MIG-0"
    assert isinstance(plan(Model(vllm=known("qwen2.5-32b")), [sliced], Wish(advise=False)), NoFit)


def test_the_detectors_recommendations_are_followed_and_named() -> None:
    advice = Advice("float16", "fp8", ("fp8",), (("VLLM_WORKER_MULTIPROC_METHOD", "spawn"),))
    result = found(known("llama-3-8b"), [replace(host("h", 1, RTX_4090), advice=advice)])
    argv = engine_argv(result, SERVING)
    assert argv[argv.index("--dtype") + 1] == "float16"
    assert argv[argv.index("--kv-cache-dtype") + 1] == "fp8"
    assert engine_environment(result)["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    for part in ("float16", "KV cache in fp8", "VLLM_WORKER_MULTIPROC_METHOD=spawn", "recommend"):
        assert part in result.explanation


def test_what_was_asked_for_wins_over_advice() -> None:
    advice = Advice("float16", "fp8")
    wish = Wish(dtype="bfloat16", kv_cache_dtype="auto")
    argv = engine_argv(
        found(known("llama-3-8b"), [replace(host("h", 1, RTX_4090), advice=advice)], wish), SERVING
    )
    assert argv[argv.index("--dtype") + 1] == "bfloat16"
    assert argv[argv.index("--kv-cache-dtype") + 1] == "auto"


@pytest.mark.parametrize(
    "told",
    [
        "x", [], {"dtype": ["float16"]}, {"env": {"LD_PRELOAD": "/x.so"}}, {"env": {"VLLM_X": 7}},
        {"env": {"VLLM_X": "a\nb"}}, {"dtype": "float16; rm"}, {"quantization": {"a": 1}},
    ],
)  # fmt: skip
def test_hostile_recommendations_are_left_out(told: object) -> None:
    body = {"node_id": "n", "hostname": "n", "recommendations": told}
    assert host_of_document(InventoryNode.model_validate(body)).advice == Advice()


def test_a_turing_card_gets_float16_and_refuses_bfloat16() -> None:
    turing = Host("h", (card(0, "Tesla T4", 15_360, capability=7.5),))
    assert found(known("qwen3-0.6b"), [turing]).dtype == "float16"
    refused = plan(Model(vllm=known("qwen3-0.6b")), [turing], Wish(dtype="bfloat16", advise=False))
    assert isinstance(refused, NoFit)
    assert "no bfloat16" in refused.reason


def test_refusals_offer_what_the_hosts_have_kernels_for() -> None:
    ampere = replace(host("h", 1, RTX_4090), advice=Advice(quantization=("awq_marlin", "gptq")))
    refused = plan(Model(vllm=known("qwen3-32b")), [ampere], Wish())
    assert isinstance(refused, NoFit)
    changes = " ".join(option["change"] for option in refused.alternatives)
    assert "4-bit" in changes
    assert "FP8" not in changes


def test_alternatives_are_ranked_and_say_where() -> None:
    result = found(known("llama-3-70b"), [host("a", 8, H100)])
    assert [option["tensor_parallel_size"] for option in result.alternatives[:2]] == [4, 8]
    assert result.alternatives[0]["placement"][0]["node_id"] == "a"


def test_only_the_cards_asked_for_by_index_are_taken() -> None:
    asked = Wish(gpu_indices=(2, 3), tp=2)
    result = found(known("qwen3-14b", max_len=8192), [host("a", 4, H100)], asked)
    assert result.places[0].gpu_indices == (2, 3)
    refused = plan(Model(vllm=known("qwen3-14b", max_len=8192)), [host("a", 2, H100)], asked)
    assert isinstance(refused, NoFit)
