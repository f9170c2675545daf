"""GPUs and degrees of a temporary instance, as the orchestrator takes them."""

import pytest

from benchmark_runner.orchestrator import layout
from compute_common.problems import Problem
from compute_common.schemas.benchmark import BenchmarkRequest


def asked(**fields: object) -> dict[str, object]:
    found = layout(BenchmarkRequest.model_validate({"model_name": "m", "model_path": "m"} | fields))
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        ({}, {}),
        ({"gpu_count": 0}, {"strategy": "CPU"}),
        ({"gpu_count": 1}, {"strategy": "SINGLE_GPU"}),
        ({"gpu_count": 1, "model_path": "m.gguf"}, {}),
        ({"gpu_count": 4}, {"tensor_parallel_size": 4}),
        (
            {"gpu_count": 4, "pipeline_parallel_size": 2},
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
        ),
        ({"tensor_parallel_size": 2}, {"tensor_parallel_size": 2}),
        ({"gpu_indices": [3, 2]}, {"tensor_parallel_size": 2, "gpu_indices": [2, 3]}),
        ({"gpu_indices": [5]}, {"strategy": "SINGLE_GPU", "gpu_indices": [5]}),
    ],
)
def test_what_is_passed_on(fields: dict[str, object], layout: dict[str, object]) -> None:
    assert asked(**fields) == layout


@pytest.mark.parametrize(
    "fields",
    [
        {"gpu_count": 3, "tensor_parallel_size": 2},
        {"gpu_count": 0, "tensor_parallel_size": 2},
        {"gpu_count": 4, "tensor_parallel_size": 2, "pipeline_parallel_size": 1},
        {"gpu_count": 1, "gpu_indices": [0, 1]},
    ],
)
def test_contradictions_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(Problem):
        asked(**fields)
