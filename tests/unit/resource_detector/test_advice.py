"""Recommendations, capabilities, limits, and what is announced."""

from dataclasses import replace
from pathlib import Path

import pytest

from compute_common.engine_containers import Template
from compute_common.engine_images import images_of
from compute_common.enums import EngineKind
from compute_common.schemas.node import NodeDocument
from resource_detector.capabilities import capabilities, container_limits
from resource_detector.detection import detect
from resource_detector.document import fingerprint, network_class, node_document
from resource_detector.findings import GpuFound, Hardware, SliceFound
from resource_detector.pulse import heartbeat
from resource_detector.recommendations import recommend
from resource_detector.service import labels_of
from resource_detector.sources.nvidia import NvmlReader
from tests.unit.resource_detector.nvml_script import ScriptedNvml
from tests.unit.resource_detector.trees import MIB, cgroup_v2, host_tree


def host(tmp_path: Path, *gpus: GpuFound) -> Hardware:
    return replace(detect(host_tree(tmp_path), NvmlReader(ScriptedNvml([])), "h"), gpus=gpus)


def card(
    name: str, capability: str, vram_mb: int = 24_000, index: int = 0, vendor: str = "nvidia"
) -> GpuFound:
    return GpuFound(index, name, vendor, vram_mb, vram_used_mb=1000, compute_capability=capability)


@pytest.mark.parametrize(
    ("capability", "dtype", "kv", "first"),
    [
        ("7.5", "float16", "auto", "awq"),
        ("8.6", "bfloat16", "auto", "awq_marlin"),
        ("8.9", "bfloat16", "fp8", "fp8"),
        ("12.0", "bfloat16", "fp8", "nvfp4"),
    ],
)
def test_cuda(tmp_path: Path, capability: str, dtype: str, kv: str, first: str) -> None:
    advice = recommend(host(tmp_path, card("card", capability)))
    assert (advice.engine, advice.dtype, advice.kv_cache_dtype) == (EngineKind.VLLM, dtype, kv)
    assert advice.quantization[0] == first


def test_a_card_too_old_for_vllm(tmp_path: Path) -> None:
    old = host(tmp_path, card("Tesla P100-PCIE-16GB", "6.0", 16384))
    assert recommend(old).engine is EngineKind.LLAMA_CPP
    assert "6.0 is below" in recommend(old).notes[0]
    assert not capabilities(old).can_infer_gpu


def test_unlike_cards_are_named(tmp_path: Path) -> None:
    advice = recommend(host(tmp_path, card("a", "8.6"), card("b", "8.9", index=1)))
    assert advice.kv_cache_dtype == "auto", "the older card decides"
    assert "unlike cards (a, b)" in advice.notes[0]


def test_rocm_and_cpu(tmp_path: Path) -> None:
    instinct = recommend(host(tmp_path, card("MI300X", "gfx942", vendor="amd")))
    assert (instinct.kv_cache_dtype, instinct.image) == ("fp8", images_of()[Template.ROCM])
    assert recommend(host(tmp_path, card("7900", "gfx1100", vendor="amd"))).notes != []
    cpu = recommend(host(tmp_path))
    assert (cpu.engine, cpu.dtype, cpu.env) == (EngineKind.LLAMA_CPP, "bfloat16", {"OMP_NUM_THREADS": "4"})


def test_a_board_without_a_vllm_image(tmp_path: Path) -> None:
    xavier = replace(card("Xavier (nvgpu)", "7.2", 30_000), unified=True)
    advice = recommend(host(tmp_path, xavier))
    assert advice.engine is EngineKind.LLAMA_CPP
    assert "no vLLM image is built for Xavier" in advice.notes[0]


def test_macos_runs_llama_server_on_the_host(tmp_path: Path) -> None:
    plain = host(tmp_path)
    mac = replace(plain, host=replace(plain.host, os="darwin", machine="arm64"))
    advice = recommend(mac)
    assert (advice.engine, advice.image) == (EngineKind.LLAMA_CPP, "")
    assert "no Metal" in advice.notes[0]


def test_capabilities(tmp_path: Path) -> None:
    gpu = capabilities(host(tmp_path, card("NVIDIA GeForce RTX 4090", "8.9", 24564)))
    assert (gpu.can_infer_gpu, gpu.can_train, gpu.total_vram_mb) == (True, True, 24564)
    assert 10 < gpu.max_model_params_b < 12
    assert gpu.max_model_params_b_4bit > 30
    cpu = capabilities(host(tmp_path))
    assert (cpu.can_infer_gpu, cpu.can_train, cpu.engines) == (False, False, [EngineKind.LLAMA_CPP])


def test_capabilities_of_slices(tmp_path: Path) -> None:
    parts = tuple(SliceFound(f"MIG-{n}", "1g.10gb", 9856) for n in range(7))
    cut = replace(card("NVIDIA H100 80GB HBM3", "9.0", 81559), mig=True, slices=parts)
    found = capabilities(host(tmp_path, cut))
    assert (found.largest_gpu_mb, found.can_infer_gpu, found.can_train) == (9856, True, False)
    assert 4 < found.max_model_params_b < 5, "slices do not join"
    bare = capabilities(host(tmp_path, replace(cut, slices=())))
    assert bare.can_infer_gpu is False


def test_limits_follow_the_control_group(tmp_path: Path) -> None:
    roots = host_tree(tmp_path)
    cgroup_v2(roots, "/a", {"a/memory.max": f"{4000 * MIB}", "a/cpu.max": "300000 100000"})
    limits = container_limits(detect(roots, NvmlReader(ScriptedNvml([])), "h"))
    assert (limits.cpus, limits.memory_mb) == (2.0, 3400)
    assert "24000 MiB to 4000 MiB" in limits.notes[0]


def test_the_announcement_is_a_valid_document(tmp_path: Path) -> None:
    found = host(tmp_path, card("NVIDIA GeForce RTX 4090", "8.9", 24564))
    body = node_document(found, "box-1", 5, {"room": "a"})
    document = NodeDocument.model_validate(body)
    assert document.managed is True
    assert (document.boot_id, document.heartbeat_seconds) == ("11111111-2222-3333-4444-555555555555", 5)
    assert document.labels == {"room": "a"}
    assert "work_types" not in body
    assert "slots" not in body


def test_only_lasting_changes_are_announced(tmp_path: Path) -> None:
    found = host(tmp_path, card("NVIDIA L4", "8.9"))
    first = fingerprint(node_document(found, "n", 5, {}))
    busy = replace(
        found,
        memory=replace(found.memory, available_mb=1),
        cpu=replace(found.cpu, frequency_mhz=1.0),
        gpus=(replace(found.gpus[0], vram_used_mb=9999, utilization=1.0),),
    )
    assert fingerprint(node_document(busy, "n", 5, {})) == first
    lost = replace(found, gpus=())
    assert fingerprint(node_document(lost, "n", 5, {})) != first
    shrunk = replace(found, memory=replace(found.memory, total_mb=1000))
    assert fingerprint(node_document(shrunk, "n", 5, {})) != first


def test_heartbeat(tmp_path: Path) -> None:
    beat = heartbeat("n", host(tmp_path, card("NVIDIA L4", "8.9")), 0.5)
    assert (beat.cpu_utilization, beat.memory_utilization) == (0.5, 0.5)
    assert (beat.available_memory_mb, beat.available_vram_mb) == (12_000, 23_000)
    assert beat.boot_id == "11111111-2222-3333-4444-555555555555"
    assert beat.gpu_utilization is None


@pytest.mark.parametrize(("mbps", "name"), [(0, "unknown"), (10, "slow"), (1000, "1g"), (25_000, "10g")])
def test_network_class(mbps: int, name: str) -> None:
    assert network_class(mbps) == name


def test_labels() -> None:
    assert labels_of("room=a, rack = 7,nonsense,=x") == {"room": "a", "rack": "7"}
    assert labels_of("") == {}
