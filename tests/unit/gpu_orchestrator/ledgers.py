"""Devices and asks for tests of the pure ledger."""

from datetime import UTC, datetime

from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.ledger import Ask

T0 = datetime(2026, 11, 1, tzinfo=UTC)


def gpu(index: int, total_mb: int = 1000, used_mb: int = 0, **fields: object) -> Device:
    return Device(key=f"GPU-{index}", index=index, total_mb=total_mb, used_mb=used_mb, **fields)  # type: ignore[arg-type]


def host(*gpus: Device, ram_mb: int = 1000, ram_used_mb: int = 0) -> dict[str, Device]:
    ram = Device(key=RAM, index=None, total_mb=ram_mb, used_mb=ram_used_mb)
    return {device.key: device for device in (ram, *gpus)}


def ask(*indices: int, mb: int = 100, key: str | None = None, seconds: float = 60) -> Ask:
    return Ask(gpu_indices=indices, required_mb=mb, timeout_seconds=seconds, idempotency_key=key)
