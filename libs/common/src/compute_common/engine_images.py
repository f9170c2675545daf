"""The images that engines run in, each pinned: the one table of them.

`vllm/vllm-openai-rocm` is vLLM's own since 2026-01; `rocm/vllm`, which was used before, is deprecated.
"""

from compute_common.engine_containers import Template

VLLM_IMAGE = "vllm/vllm-openai:v0.32.0"  # for CUDA; the other builds follow its tag
LLAMA_IMAGE = "ghcr.io/ggml-org/llama.cpp:server-b11206"  # for processors
# Builds for arm64 and CUDA 13: the stock image has no kernels for these parts (vllm issues 28129, 31424). The
# last two are known by their newest build alone.
BOARD_IMAGES = (
    ("GB10", "nvcr.io/nvidia/vllm:25.12-py3"),
    ("Thor", "ghcr.io/nvidia-ai-iot/vllm:latest-jetson-thor"),
    ("Orin", "ghcr.io/nvidia-ai-iot/vllm:latest-jetson-orin"),
)
_STOCK = VLLM_IMAGE.partition(":")[0]


def images_of(vllm_image: str = VLLM_IMAGE, llama_image: str = LLAMA_IMAGE) -> dict[Template, str]:
    """The image of every platform, of the release that `vllm_image` names; one of another name serves all."""
    tag = vllm_image.partition(":")[2]
    if not is_stock(vllm_image):
        vllm = dict.fromkeys((Template.CPU, Template.CUDA, Template.ROCM), vllm_image)
    else:
        vllm = {
            Template.CPU: f"{_STOCK}-cpu:{tag}-x86_64",
            Template.CUDA: vllm_image,
            Template.ROCM: f"{_STOCK}-rocm:{tag}",
        }
    return {Template.LLAMA: llama_image, **vllm}


def is_stock(vllm_image: str) -> bool:
    """Whether it is one of vLLM's own, of which every platform has a build of the same tag."""
    return vllm_image.partition(":")[0] == _STOCK


def stock_image(version: str) -> str:
    """vLLM's own image of a release such as 0.32.0."""
    return f"{_STOCK}:v{version.removeprefix('v')}"


def board_image(card: str) -> str | None:
    """The image for a part that shares the system's memory, where one is built for it."""
    return next((image for part, image in BOARD_IMAGES if part in card), None)
