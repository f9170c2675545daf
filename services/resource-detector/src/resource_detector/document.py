"""Hardware as the node document this host announces."""

from compute_common import __version__
from compute_common.schemas.base import JsonObject
from compute_common.schemas.node import Cpu, Memory
from resource_detector.detection import platform_of, tier_of
from resource_detector.findings import Hardware
from resource_detector.gpu_document import gpu_of, lasting
from resource_detector.recommendations import as_json


def cpu_of(hardware: Hardware) -> Cpu:
    cpu = hardware.cpu
    return Cpu(
        cores=cpu.cores, threads=cpu.threads, model_name=cpu.model_name, frequency_mhz=cpu.frequency_mhz
    )


def memory_of(hardware: Hardware) -> Memory:
    memory = hardware.memory
    return Memory(
        total_mb=memory.total_mb,
        available_mb=memory.available_mb,
        swap_total_mb=memory.swap_total_mb,
        swap_free_mb=memory.swap_free_mb,
    )


def network_of(hardware: Hardware) -> JsonObject:
    """Interfaces, their summed speed and its class (10g, 1g, 100m, slow, unknown)."""
    interfaces = hardware.host.interfaces
    total = sum(item.speed_mbps or 0 for item in interfaces)
    return {
        "interfaces": [
            {"name": item.name, "ipv4": item.ipv4, "speed_mbps": item.speed_mbps} for item in interfaces
        ],
        "total_bandwidth_mbps": total or None,
        "network_class": network_class(total),
    }


def network_class(mbps: int) -> str:
    classes = ((10_000, "10g"), (1_000, "1g"), (100, "100m"), (1, "slow"))
    return next((name for least, name in classes if mbps >= least), "unknown")


def node_document(
    hardware: Hardware, node_id: str, heartbeat_seconds: float, labels: dict[str, str]
) -> JsonObject:
    """The announcement: hardware and liveness. Work types and slots are the node program's to say."""
    host = hardware.host
    document: JsonObject = {
        "node_id": node_id,
        "hostname": host.hostname,
        "tier": tier_of(hardware)[0].value,
        "ipv4": host.ipv4,
        "boot_id": host.boot_id,
        "managed": True,
        "compute_version": __version__,
        "heartbeat_seconds": heartbeat_seconds,
        "cpu": cpu_of(hardware).model_dump(mode="json", exclude_none=True),
        "memory": memory_of(hardware).model_dump(mode="json", exclude_none=True),
        "gpus": [gpu_of(gpu).model_dump(mode="json", exclude_none=True) for gpu in hardware.gpus],
        "platform": platform_of(hardware).value,
        "network": network_of(hardware),
        "recommendations": as_json(hardware),
        "disks": [
            {"path": disk.path, "total_mb": disk.total_mb, "free_mb": disk.free_mb} for disk in host.disks
        ],
        "host": {
            "os": host.os,
            "kernel": host.kernel,
            "machine": host.machine,
            "container": host.container,
            "wsl": host.wsl,
            "memory_mb": hardware.memory.host_total_mb,
            "threads": hardware.cpu.host_threads,
            "numa_nodes": [
                {"node": node.number, "cpus": node.cpus, "memory_mb": node.memory_mb}
                for node in hardware.cpu.numa
            ],
        },
        "driver_version": hardware.driver_version,
        "cuda_version": hardware.cuda_version,
        "labels": labels or None,
    }
    return {key: value for key, value in document.items() if value is not None}


def fingerprint(document: JsonObject) -> JsonObject:
    """The document without what changes by itself: free memory, clocks, free disk."""
    kept = {key: value for key, value in document.items() if key not in ("memory", "gpus", "cpu", "disks")}
    memory = document["memory"]
    kept["memory"] = {key: memory.get(key) for key in ("total_mb", "swap_total_mb")}
    kept["cpu"] = {key: value for key, value in document["cpu"].items() if key != "frequency_mhz"}
    kept["gpus"] = [lasting(gpu) for gpu in document["gpus"]]
    return kept
