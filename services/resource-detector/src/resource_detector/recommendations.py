"""What to run on this hardware, and how: engine, image, number formats, environment."""

from compute_common.engine_containers import Template
from compute_common.engine_images import board_image, images_of
from compute_common.enums import EngineKind, Platform
from compute_common.schemas.base import JsonObject, Wire
from resource_detector.detection import capability_number, platform_of
from resource_detector.findings import GpuFound, Hardware

IMAGES = images_of()
VLLM_LEAST_CAPABILITY = 7.0
LEAST_CUDA = 12.0


class Recommendations(Wire):
    engine: EngineKind
    image: str
    dtype: str
    kv_cache_dtype: str
    quantization: list[str]
    env: dict[str, str] = {}
    notes: list[str] = []


def recommend(hardware: Hardware) -> Recommendations:
    """For the best card of the platform; the orchestrator applies it and names it in its explanation."""
    match platform_of(hardware):
        case Platform.CUDA:
            return _cuda(hardware)
        case Platform.ROCM:
            return _rocm(hardware)
        case Platform.METAL:
            return _metal()
        case _:
            return _cpu(hardware)


def _cuda(hardware: Hardware) -> Recommendations:
    cards = [gpu for gpu in hardware.gpus if gpu.vendor == "nvidia"]
    capability = min((number for gpu in cards if (number := capability_number(gpu))), default=0.0)
    if capability and capability < VLLM_LEAST_CAPABILITY:
        old = _cpu(hardware)
        note = f"compute capability {capability} is below {VLLM_LEAST_CAPABILITY}, the least vLLM runs on"
        return old.model_copy(update={"notes": [note, *old.notes]})
    image = _cuda_image(cards)
    if image is None:
        old = _cpu(hardware)
        note = f"no vLLM image is built for {cards[0].name}: llama.cpp, built on the board for CUDA"
        return old.model_copy(update={"notes": [note, *old.notes]})
    notes = [*_mixed(cards), *_cuda_notes(hardware, cards)]
    return Recommendations(
        engine=EngineKind.VLLM,
        image=image,
        dtype="bfloat16" if capability >= 8.0 else "float16",
        kv_cache_dtype="fp8" if capability >= 8.9 else "auto",
        quantization=_cuda_quantization(capability),
        env={"VLLM_WORKER_MULTIPROC_METHOD": "spawn"} if len(cards) > 1 or hardware.host.wsl else {},
        notes=notes if capability >= 8.0 else [*notes, "no bfloat16 on this card: float16 instead"],
    )


def _cuda_image(cards: list[GpuFound]) -> str | None:
    """The stock image; integrated parts have their own, or none."""
    board = next((gpu for gpu in cards if gpu.unified), None)
    if board is None:
        return IMAGES[Template.CUDA]
    return board_image(board.name)


def _cuda_notes(hardware: Hardware, cards: list[GpuFound]) -> list[str]:
    notes = []
    if any(gpu.unified for gpu in cards):
        notes.append("the GPU shares the system's memory: leave room for the operating system")
    if any(gpu.coherent for gpu in cards):
        notes.append(
            "the CPU's memory is coherent with the GPU's: weights beyond HBM can be offloaded cheaply"
        )
    if any(gpu.mig for gpu in cards):
        notes.append("MIG: give an engine one slice by its uuid in CUDA_VISIBLE_DEVICES; slices do not join")
    if hardware.cuda_version is not None and float(hardware.cuda_version) < LEAST_CUDA:
        notes.append(f"the driver is for CUDA {hardware.cuda_version}; the image wants {LEAST_CUDA} or newer")
    if hardware.host.wsl:
        notes.append("WSL2: memory of single processes is not told; no NVLink and little pinned memory")
    return notes


def _metal() -> Recommendations:
    return Recommendations(
        engine=EngineKind.LLAMA_CPP,
        image="",
        dtype="float16",
        kv_cache_dtype="auto",
        quantization=["q4_k_m", "q8_0"],
        notes=[
            "run llama-server on the host itself (brew install llama.cpp): containers on macOS have no Metal"
        ],
    )


def _cuda_quantization(capability: float) -> list[str]:
    """Weight formats with kernels for this capability, best first."""
    formats = ["awq", "gptq"] if capability >= 7.5 else ["gptq"]
    if capability >= 8.0:
        formats = ["awq_marlin", "gptq_marlin", *formats]
    if capability >= 8.9:
        formats = ["fp8", *formats]
    return ["nvfp4", *formats] if capability >= 10.0 else formats


def _mixed(cards: list[GpuFound]) -> list[str]:
    names = sorted({card.name for card in cards})
    return [f"unlike cards ({', '.join(names)}): one instance should not span them"] if len(names) > 1 else []


def _rocm(hardware: Hardware) -> Recommendations:
    targets = {gpu.compute_capability or "" for gpu in hardware.gpus if gpu.vendor == "amd"}
    instinct = any(target.startswith("gfx9") for target in targets)
    fp8 = any(target.startswith(("gfx94", "gfx95", "gfx12")) for target in targets)
    return Recommendations(
        engine=EngineKind.VLLM,
        image=IMAGES[Template.ROCM],
        dtype="bfloat16",
        kv_cache_dtype="fp8" if fp8 else "auto",
        quantization=["fp8", "gptq", "awq"] if fp8 else ["gptq", "awq"],
        env={"VLLM_ROCM_USE_AITER": "1"} if instinct and fp8 else {},
        notes=[] if instinct else ["a consumer card: check that the image supports its gfx target"],
    )


def _cpu(hardware: Hardware) -> Recommendations:
    flags = hardware.cpu.flags
    notes = []
    if "amx_bf16" in flags:
        notes.append("AMX: bfloat16 matrix products in hardware")
    elif "avx512_bf16" in flags:
        notes.append("AVX-512 with bfloat16")
    elif "avx512f" in flags:
        notes.append("AVX-512 without bfloat16")
    elif "avx2" in flags:
        notes.append("AVX2 only: quantised GGUF models run best")
    elif flags & {"asimd", "neon"}:
        notes.append("ARM NEON")
    bf16 = bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})
    return Recommendations(
        engine=EngineKind.LLAMA_CPP,
        image=IMAGES[Template.LLAMA],
        dtype="bfloat16" if bf16 else "float32",
        kv_cache_dtype="auto",
        quantization=["q4_k_m", "q8_0"],
        env={"OMP_NUM_THREADS": str(hardware.cpu.cores)},
        notes=notes,
    )


def as_json(hardware: Hardware) -> JsonObject:
    return recommend(hardware).model_dump(mode="json")
