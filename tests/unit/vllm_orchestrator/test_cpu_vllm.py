"""vLLM on hosts without a GPU, where it is asked for by name."""

from typing import Any

import pytest

from compute_common.enums import EngineKind, Strategy
from tests.unit.vllm_orchestrator.shapes import H100, host, known
from vllm_orchestrator.planning.inventory import Host
from vllm_orchestrator.planning.plan import Model, plan
from vllm_orchestrator.planning.result import NoFit, Plan, Wish
from vllm_orchestrator.rendering.argv import Serving, engine_argv, engine_environment

SERVING = Serving(["mine"], "org/model", "127.0.0.1", 18_000)


def box(name: str, ram_mb: int = 32_000) -> Host:
    return Host(name, (), ram_mb, ram_mb, 8, address=f"10.0.0.{len(name)}")


def found(hosts: list[Host], *, name: str = "qwen2.5-0.5b", **wish: Any) -> Plan | NoFit:
    return plan(Model(vllm=known(name)), hosts, Wish(engine=EngineKind.VLLM, **wish))


def fits(hosts: list[Host], **wish: Any) -> Plan:
    result = found(hosts, **wish)
    assert isinstance(result, Plan), result
    return result


def test_only_where_it_was_asked_for() -> None:
    unasked = plan(Model(vllm=known("qwen2.5-0.5b")), [box("a")], Wish())
    assert isinstance(unasked, NoFit)
    assert fits([box("a")]).strategy is Strategy.CPU
    assert fits([host("g", 1, H100)]).strategy is Strategy.SINGLE_GPU


def test_what_the_engine_is_told() -> None:
    result = fits([box("a")], tp=2, max_model_len=4096)
    environment = engine_environment(result)
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == str(result.kv_cache_bytes >> 30)
    assert (environment["OMP_NUM_THREADS"], environment["VLLM_CPU_OMP_THREADS_BIND"]) == ("4", "nobind")
    assert "CUDA_VISIBLE_DEVICES" not in environment
    assert "--gpu-memory-utilization" not in engine_argv(result, SERVING)


def test_ranks_spread_where_one_host_is_too_small() -> None:
    whole = fits([box("a"), box("bb")], tp=2)
    assert [place.node_id for place in whole.places] == ["a"]
    one_rank = fits([box("a")], tp=2).places[0].reserved_mb - 500
    spread = fits([box("a", one_rank), box("bb", one_rank)], tp=2)
    assert [place.node_id for place in spread.places] == ["a", "bb"]
    assert "--headless" in engine_argv(spread, SERVING, rank=1)
    alone = found([box("a", one_rank)], tp=2)
    assert isinstance(alone, NoFit)
    assert alone.shortfall["short_mb"] == 500


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"tp": 3}, "14 attention heads do not divide"),
        ({"pp": 2, "enforce_eager": True}, "leave enforce_eager out"),
    ],
)
def test_refusals(wish: dict[str, Any], words: str) -> None:
    result = found([box("a")], **wish)
    assert isinstance(result, NoFit)
    assert words in result.reason


def test_head_sizes_without_a_kernel() -> None:
    odd = known("qwen2.5-0.5b", head_dim=16)
    result = plan(Model(vllm=odd), [box("a")], Wish(engine=EngineKind.VLLM))
    assert isinstance(result, NoFit)
    assert "heads of 16" in result.reason
