"""Plans and models printed for people."""

from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from compute_cli.plan_views import models_table, plan_view
from compute_cli.views import instances_table

PLAN: dict[str, Any] = {
    "strategy": "TENSOR_PARALLEL", "tensor_parallel_size": 2, "pipeline_parallel_size": 1,
    "placement": [{"node_id": "big", "gpu_indices": [0, 1], "reserved_mb": 70_000}],
    "memory": {
        "weights_mb": 67_289, "kv_cache_mb": 5000, "activations_mb": 3600, "overhead_mb": 1500,
        "total_mb": 77_389, "kv_cache_tokens": 32_000, "source": "catalogue",
    },
    "config": {"max_model_len": 8192, "expected_tokens_per_s": 33.2},
}  # fmt: skip


def printed(view: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=160).print(view)
    return out.getvalue()


def test_a_plan_shows_layout_memory_alternatives_and_refusals() -> None:
    answer = {
        "fits": True,
        "plan": PLAN,
        "explanation": "TENSOR_PARALLEL: because.",
        "alternatives": [{"change": "TP 4 x PP 1 on 4 x H100 (big)", "strategy": "TENSOR_PARALLEL"}],
        "rejected": [{"layout": f"TP {n}", "reason": f"64 heads over {n}"} for n in range(30)],
    }
    text = printed(plan_view(answer))
    shown = ("TP 2 x PP 1", "big:0,1", "65.7 GiB", "32000 tokens")
    for part in (*shown, "TP 4 x PP 1", "64 heads over 3", "and 10 more"):
        assert part in text


def test_a_refusal_shows_what_would_fit() -> None:
    answer = {
        "fits": False,
        "plan": None,
        "explanation": "does not fit: 9 MiB per GPU short",
        "alternatives": [{"change": "4-bit weights", "max_model_len": 4096}],
        "rejected": [],
    }
    text = printed(plan_view(answer))
    assert "9 MiB per GPU short" in text
    assert "What would fit" in text
    assert "4-bit weights" in text


def test_models_that_fit() -> None:
    model = {
        "model_name": "Qwen/Qwen3-8B", "parameters": 8_190_735_360, "weights_mb": 15_623,
        "strategy": "SINGLE_GPU", "gpus": 1, "context": 40_960, "expected_tokens_per_s": 41.0, "local": False,
        "max_model_len": 40_960,
    }  # fmt: skip
    text = printed(models_table([model], fits=True))
    for part in ("Qwen/Qwen3-8B", "8.2 B", "SINGLE_GPU", "40960", "41.0"):
        assert part in text
    assert "strategy" not in printed(models_table([model], fits=False))


def test_an_instance_that_is_ready_again_shows_no_error_of_the_past() -> None:
    row: dict[str, Any] = {
        "instance_name": "a", "model_name": "m", "engine": "vllm", "strategy": "CPU", "placement": [],
        "endpoints": {}, "last_error": "exited unasked",
    }  # fmt: skip
    assert "exited unasked" in printed(instances_table([{**row, "status": "starting"}]))
    assert "exited unasked" not in printed(instances_table([{**row, "status": "ready"}]))
