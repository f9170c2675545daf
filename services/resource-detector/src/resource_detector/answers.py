"""What the detector answers over HTTP."""

from pydantic import ConfigDict, Field

from compute_common.enums import Platform, Tier
from compute_common.schemas.base import JsonObject, Wire
from compute_common.schemas.node import Cpu, Memory
from compute_common.schemas.node_flat import flat_hardware
from compute_common.times import UtcTime
from resource_detector.detection import platform_of, tier_of
from resource_detector.detector import Detected
from resource_detector.document import cpu_of, memory_of
from resource_detector.gpu_document import DetectedGpu, gpu_of
from resource_detector.recommendations import Recommendations, recommend


class DetectAnswer(Wire):
    """The node document of this host, and how it came about."""

    model_config = ConfigDict(extra="allow")

    node_id: str
    hostname: str
    tier: Tier
    tier_reason: str
    platform: Platform
    boot_id: str | None = None
    ipv4: str | None = None
    cpu: Cpu
    memory: Memory
    gpus: list[DetectedGpu]
    network: JsonObject
    disks: list[JsonObject] = []
    host: JsonObject = Field({}, description="Operating system, and the machine around the container")
    heartbeat_seconds: float
    detected_at: UtcTime
    detect_seconds: float = Field(description="How long the detection took")
    sources: dict[str, str] = Field(description="What each value was read from")
    warnings: list[str]
    recommendations: Recommendations


def detect_answer(found: Detected, document: JsonObject) -> DetectAnswer:
    """`document` is the announcement; the answer adds its reasons."""
    hardware = found.hardware
    fields = {
        **document,
        "tier_reason": tier_of(hardware)[1],
        "platform": platform_of(hardware),
        "cpu": cpu_of(hardware),
        "memory": memory_of(hardware),
        "gpus": [gpu_of(gpu) for gpu in hardware.gpus],
        "detected_at": found.at,
        "detect_seconds": round(found.seconds, 4),
        "sources": hardware.sources,
        "warnings": list(hardware.warnings),
        "recommendations": recommend(hardware),
    }
    return DetectAnswer.model_validate(fields)


def profile_answer(answer: DetectAnswer) -> JsonObject:
    """The same with the keys of older clients beside today's."""
    body = answer.model_dump(mode="json")
    flat = flat_hardware(answer.cpu, answer.memory, list(answer.gpus))
    threads, cores = answer.cpu.threads or 1, answer.cpu.cores or 1
    body["cpu"] |= {
        "total_threads": threads,
        "threads_per_core": max(1, threads // cores),
        "mhz_per_cpu": answer.cpu.frequency_mhz,
    }
    body["memory"] |= {
        "total_gb": _gb(answer.memory.total_mb),
        "available_gb": _gb(answer.memory.available_mb),
    }
    for gpu in body["gpus"]:
        gpu["vram_gb"] = _gb(gpu.get("vram_mb"))
    return {**flat, "total_gpu_vram_gb": flat["gpu_vram_gb"], **body}


def _gb(mib: int | None) -> float | None:
    return None if mib is None else round(mib / 1024, 2)
