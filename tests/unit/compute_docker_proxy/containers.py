"""Containers as the orchestrator asks for them, one a platform."""

from dataclasses import replace

from compute_common.engine_containers import EngineContainer, Template
from compute_common.engine_images import images_of
from compute_docker_proxy.grants import Grants

IMAGES = images_of("vllm/vllm-openai:v0.32.0", "llama:1")
GRANTS = Grants(images=IMAGES, models="/srv/models", bind="127.0.0.1", ports=range(18_000, 18_100))
LLAMA = EngineContainer(
    template=Template.LLAMA,
    image="llama:1",
    owner="0123456789abcdef",
    node_id="host.one",
    instance_name="smol",
    epoch=3,
    port=18_007,
    words=("-m", "/models/smol.gguf", "--host", "0.0.0.0", "--port", "18007"),
    environment=(),
    devices=(),
    models="/srv/models",
    network="bridge",
    bind="127.0.0.1",
)
CPU = replace(LLAMA, template=Template.CPU, image=IMAGES[Template.CPU],
              environment=(("VLLM_CPU_KVCACHE_SPACE", "4"),))  # fmt: skip
CUDA = replace(LLAMA, template=Template.CUDA, image=IMAGES[Template.CUDA], devices=("0", "3"))
ROCM = replace(LLAMA, template=Template.ROCM, image=IMAGES[Template.ROCM],
               environment=(("HIP_VISIBLE_DEVICES", "0,1"),))  # fmt: skip
PLATFORMS = {"llama": LLAMA, "cpu": CPU, "cuda": CUDA, "rocm": ROCM}
