"""Compose documents per platform: what each needs, and no privilege beyond."""

import re
from dataclasses import replace
from typing import Any

import pytest

from compute_common.engine_images import VLLM_IMAGE, images_of
from tests.unit.vllm_orchestrator.shapes import H100, RTX_4090, host
from tests.unit.vllm_orchestrator.test_rendering import SERVING, cpu_plan, planned
from vllm_orchestrator.planning.result import Plan, Wish
from vllm_orchestrator.rendering.argv import Serving
from vllm_orchestrator.rendering.compose import compose_document
from vllm_orchestrator.rendering.platforms import image_of

CUDA = planned("phi-4", [host("h", 4, RTX_4090)])
ROCM = replace(planned("phi-4", [host("h", 2, RTX_4090)]), vendor="amd")
PROCESSOR = replace(planned("phi-4", [host("h", 1, H100)]), utilization=None, threads=6)
PRIVILEGES = ("privileged", "ipc", "pid", "cap_add", "security_opt", "devices")


def service_of(plan: Plan, serving: Serving = SERVING, rank: int = 0) -> dict[str, Any]:
    services = compose_document(plan, "it", serving, image="i:1")["services"]
    service: dict[str, Any] = services[f"it-rank-{rank}" if rank else "it"]
    return service


@pytest.mark.parametrize("plan", [CUDA, ROCM, PROCESSOR, cpu_plan()])
def test_what_every_platform_has(plan: Plan) -> None:
    service = service_of(plan)
    assert service["healthcheck"]["test"][-1] == "http://127.0.0.1:8000/health"
    assert service["ports"] == ["127.0.0.1:18000:8000"]
    assert service["labels"] == {"compute.instance": "it", "compute.node": "h"}
    seconds = int(service["stop_grace_period"].rstrip("s"))
    assert "--shutdown-timeout" not in service["command"] or seconds > 20
    assert "HF_TOKEN" not in service.get("environment", {}) or (
        service["environment"]["HF_TOKEN"] == "${HF_TOKEN:-}"
    ), "the token itself is never written"


def test_cuda_has_its_cards_and_no_privilege() -> None:
    service = service_of(CUDA)
    assert not {key for key in PRIVILEGES if key in service}
    assert service["shm_size"] == "16gb"
    assert "CUDA_VISIBLE_DEVICES" not in service["environment"], "the container sees its own cards only"


def test_rocm() -> None:
    service = service_of(ROCM)
    assert service["devices"] == ["/dev/kfd", "/dev/dri"]
    assert (service["group_add"], service["cap_add"]) == (["video"], ["SYS_PTRACE"])
    assert service["security_opt"] == ["seccomp=unconfined"]
    assert service["environment"]["HIP_VISIBLE_DEVICES"] == "0,1"
    assert not {"privileged", "ipc", "pid", "deploy"} & set(service)


def test_vllm_on_a_processor() -> None:
    service = service_of(PROCESSOR)
    assert (service["shm_size"], service["cap_add"]) == ("4gb", ["SYS_NICE"])
    assert int(service["environment"]["VLLM_CPU_KVCACHE_SPACE"]) > 0
    assert service["environment"]["OMP_NUM_THREADS"] == "6"
    assert "--gpu-memory-utilization" not in service["command"]
    assert "deploy" not in service


def test_llama_cpp_needs_nothing() -> None:
    service = service_of(cpu_plan())
    assert not {key for key in (*PRIVILEGES, "environment", "deploy", "shm_size") if key in service}


def test_each_platform_has_its_image() -> None:
    ours = "vllm/vllm-openai:v1"
    images = [image_of(plan, ours, "l:1") for plan in (CUDA, ROCM, PROCESSOR, cpu_plan())]
    assert images == [ours, "vllm/vllm-openai-rocm:v1", "vllm/vllm-openai-cpu:v1-x86_64", "l:1"]
    assert image_of(ROCM, "registry.local/own:2", "l:1") == "registry.local/own:2"


def test_an_asked_for_release_and_a_board_have_images_of_their_own() -> None:
    older = Wish(engine_version="0.11.0")
    images = [image_of(replace(plan, wish=older), VLLM_IMAGE, "l:1") for plan in (CUDA, ROCM, PROCESSOR)]
    assert images == [
        "vllm/vllm-openai:v0.11.0",
        "vllm/vllm-openai-rocm:v0.11.0",
        "vllm/vllm-openai-cpu:v0.11.0-x86_64",
    ]
    hostile = replace(CUDA, wish=Wish(engine_version="nightly-evil"))
    assert image_of(hostile, VLLM_IMAGE, "l:1") == VLLM_IMAGE
    spark = replace(CUDA, card="NVIDIA GB10")
    assert image_of(spark, VLLM_IMAGE, "l:1") == "nvcr.io/nvidia/vllm:25.12-py3"
    assert image_of(spark, "own:1", "l:1") == "own:1"


def test_every_image_of_the_table_is_pinned() -> None:
    for image in images_of().values():
        assert re.search(r":(v\d+\.\d+\.\d+|server-b\d+)", image), image


def test_a_local_model_is_never_asked_of_the_hub() -> None:
    service = service_of(CUDA, Serving(["it"], "/m/phi", "127.0.0.1", 18_000))
    assert service["volumes"] == ["/m/phi:/models/phi:ro", "model-cache:/model-cache"]
    assert service["command"][0] == "/models/phi"
    assert service["environment"]["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in service["environment"]


def test_the_shards_of_a_gguf_come_along() -> None:
    serving = Serving(["it"], "/m/x/x-00001-of-00003.gguf", "127.0.0.1", 18_000)
    service = service_of(cpu_plan(), serving)
    assert service["volumes"] == ["/m/x:/models:ro"]
    assert service["command"][:2] == ["-m", "/models/x-00001-of-00003.gguf"]


def test_parts_over_hosts_share_the_hosts_network() -> None:
    hosts = [replace(host(name, 8, H100), address=f"10.0.0.{number}") for number, name in enumerate("ab", 1)]
    plan = planned("deepseek-r1", hosts)
    serving = Serving(["it"], "org/model", "10.0.0.1", 18_000)
    head, second = (service_of(plan, serving, rank) for rank in (0, 1))
    for service, address in ((head, "10.0.0.1"), (second, "10.0.0.2")):
        assert service["network_mode"] == "host"
        assert "ports" not in service
        assert service["environment"]["VLLM_HOST_IP"] == address
    assert head["healthcheck"]["test"][-1] == "http://10.0.0.1:18000/health"
    assert "healthcheck" not in second
    assert "--headless" in second["command"]
    assert "profiles" not in head
    assert second["profiles"] == ["rank-1"], "`up` on the head's host starts the head alone"


def test_an_ipv6_address_is_published_in_brackets() -> None:
    assert service_of(CUDA, Serving(["it"], "o/m", "::1", 18_000))["ports"] == ["[::1]:18000:8000"]
