"""Nested, flat and mixed node documents mean the same."""

import pytest
from pydantic import ValidationError

from compute_common.enums import Platform, Tier
from compute_common.schemas.node import NodeDocument


def parse(**fields: object) -> NodeDocument:
    return NodeDocument.model_validate({"node_id": "n1", "hostname": "h1", **fields})


def test_nested_document() -> None:
    node = parse(
        tier="GPU_PEER",
        cpu={"cores": 16, "threads": 32, "model_name": "Ryzen", "frequency_mhz": 4500},
        memory={"total_gb": 64, "available_gb": 32.5, "swap_total_mb": 100},
        gpus=[{"index": 0, "uuid": "GPU-1", "name": "RTX 3090", "vram_gb": 24, "compute_capability": 8.6}],
        platform="CUDA",
    )
    assert node.declared_tier is Tier.GPU_PEER
    assert node.platform is Platform.CUDA
    assert node.memory is not None
    assert (node.memory.total_mb, node.memory.available_mb) == (65_536, 33_280)
    assert node.gpus is not None
    assert (node.gpus[0].vram_mb, node.gpus[0].compute_capability) == (24_576, "8.6")


def test_flat_document_means_the_same() -> None:
    node = parse(
        tier="worker_hub",
        cpu_cores=16,
        cpu_threads=32,
        cpu_model="Ryzen",
        cpu_mhz=4500,
        memory_gb=64,
        gpu_count=2,
        gpu_vram_gb=48,
        gpu_models=["RTX 3090", "RTX 3090"],
        is_online=True,
        cgp_public_key="abc",
    )
    assert node.declared_tier is Tier.GPU_PEER
    assert node.cpu is not None
    assert (node.cpu.cores, node.cpu.model_name) == (16, "Ryzen")
    assert node.gpus is not None
    assert [(gpu.index, gpu.name, gpu.vram_mb) for gpu in node.gpus] == [
        (0, "RTX 3090", 24_576),
        (1, "RTX 3090", 24_576),
    ]
    assert (node.model_extra or {}) == {"cgp_public_key": "abc"}


@pytest.mark.parametrize("key", ["memory_mb", "total_memory_mb"])
def test_memory_spellings(key: str) -> None:
    node = parse(**{key: 2048})
    assert node.memory is not None
    assert node.memory.total_mb == 2048


@pytest.mark.parametrize("key", ["gpu_vram_mb", "total_gpu_vram_mb"])
def test_vram_is_the_sum_over_gpus(key: str) -> None:
    node = parse(gpu_count=4, **{key: 40_960})
    assert node.gpus is not None
    assert [gpu.vram_mb for gpu in node.gpus] == [10_240] * 4


def test_only_id_and_hostname_are_required() -> None:
    node = parse()
    assert node.gpus is None
    assert node.work_types is None


def test_no_gpu_is_said_not_unknown() -> None:
    assert parse(gpu_count=0).gpus == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_id": "../../x"},
        {"node_id": "a;rm -rf"},
        {"node_id": "x" * 10_000},
        {"node_id": "line\n"},
        {"node_id": "query"},
        {"hostname": ""},
        {"cpu": 3},
        {"cpu": {"cores": -1}},
        {"cpu": {"cores": "many"}},
        {"memory": [1]},
        {"memory_gb": "lots"},
        {"gpus": "two"},
        {"gpus": [3]},
        {"gpu_count": -3},
        {"gpu_count": 10**9},
        {"heartbeat_seconds": 0},
        {"tier": "HUGE"},
    ],
)
def test_wrong_documents_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NodeDocument.model_validate({"node_id": "n1", "hostname": "h1", **wrong})
