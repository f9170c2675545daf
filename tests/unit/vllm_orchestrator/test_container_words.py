"""A planned command as a container of its platform is told it."""

from pathlib import PurePath

import pytest

from compute_common.engine_containers import Template
from compute_common.enums import EngineKind
from compute_common.problems import Problem
from vllm_orchestrator.engines.container_words import platform_of, words_inside

ROOTS = (PurePath("/srv/models"), PurePath("/data/models"))
LLAMA = ["/usr/bin/llama-server", "-m", "/srv/models/a/a.gguf", "--host", "127.0.0.1", "--port", "18000",
         "--alias", "a,/srv/models/a"]  # fmt: skip
VLLM = ["vllm", "serve", "/data/models/b", "--host", "127.0.0.1", "--port", "18000"]


def test_the_model_is_where_it_is_mounted_and_every_address_is_listened_on() -> None:
    assert words_inside(EngineKind.LLAMA_CPP, LLAMA, ROOTS, alone=True) == (
        "-m", "/models/a/a.gguf", "--host", "0.0.0.0", "--port", "18000", "--alias", "a,/srv/models/a",
    )  # fmt: skip
    assert words_inside(EngineKind.VLLM, VLLM, ROOTS, alone=True)[:3] == ("/models/b", "--host", "0.0.0.0")


def test_on_the_host_s_network_its_address_is_kept() -> None:
    assert words_inside(EngineKind.VLLM, VLLM, ROOTS, alone=False)[1:3] == ("--host", "127.0.0.1")


def test_a_hub_id_stays() -> None:
    command = ["vllm", "serve", "meta-llama/Llama-3-8B", "--host", "h"]
    assert words_inside(EngineKind.VLLM, command, ROOTS, alone=True)[0] == "meta-llama/Llama-3-8B"


@pytest.mark.parametrize("model", ["/etc/passwd", "/srv/models/../x", "/srv/modelsx/a"])
def test_a_model_that_is_not_mounted(model: str) -> None:
    with pytest.raises(Problem, match="VLLM_MODEL_PATH"):
        words_inside(EngineKind.VLLM, ["vllm", "serve", model, "--host", "h"], ROOTS, alone=True)


@pytest.mark.parametrize(
    ("environment", "template", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,3", "VLLM_X": "1"}, Template.CUDA, ("0", "3")),
        ({"HIP_VISIBLE_DEVICES": "1", "VLLM_X": "1"}, Template.ROCM, ()),
        ({"VLLM_CPU_KVCACHE_SPACE": "4", "VLLM_X": "1"}, Template.CPU, ()),
    ],
)
def test_platforms(environment: dict[str, str], template: Template, devices: tuple[str, ...]) -> None:
    """CUDA's cards are handed to the container, so that inside they are all there is; ROCm's are shown."""
    found = platform_of(EngineKind.VLLM, environment, local=True)
    assert (found.template, found.devices) == (template, devices)
    told = dict(found.environment)
    assert (told["HF_HUB_OFFLINE"], told["VLLM_X"]) == ("1", "1")
    assert ("HIP_VISIBLE_DEVICES" in told) is (template is Template.ROCM)
    assert "CUDA_VISIBLE_DEVICES" not in told
    assert "HF_HUB_OFFLINE" not in dict(platform_of(EngineKind.VLLM, environment, local=False).environment)


def test_llama() -> None:
    assert platform_of(EngineKind.LLAMA_CPP, {}, local=True).template is Template.LLAMA
