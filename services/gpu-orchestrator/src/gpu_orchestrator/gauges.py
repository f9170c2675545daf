"""What Prometheus sees of memory and of the ledger."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from compute_common.enums import MemoryLevel
from gpu_orchestrator.devices import Device, GpuReading
from gpu_orchestrator.entries import RAM, State
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.observer import View

_MIB = 1024 * 1024
_LEVELS = list(MemoryLevel)


class Gauges:
    """`device` is `ram` or a GPU's index; there are as many as the host has."""

    def __init__(self, node_id: str, registry: CollectorRegistry) -> None:
        self._node_id = node_id
        of_device = ["node_id", "device"]

        def gauge(name: str, text: str, labels: list[str]) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._memory = gauge(
            "compute_memory_bytes",
            "Memory of a device: total, used, reserved, foreign, available",
            [*of_device, "kind"],
        )
        self._oom = gauge(
            "compute_memory_predicted_oom_seconds", "Seconds until it is used up; +Inf = never", of_device
        )
        self._level = gauge("compute_memory_level", "0 ok, 1 watch, 2 warn, 3 critical", of_device)
        self._busy = gauge("compute_gpu_utilization_ratio", "GPU utilisation", of_device)
        self._celsius = gauge("compute_gpu_temperature_celsius", "GPU temperature", of_device)
        self._watts = gauge("compute_gpu_power_watts", "GPU power draw", of_device)
        self._healthy = gauge("compute_gpu_healthy", "1 while the GPU answers", of_device)
        self._living = gauge("compute_gpu_reservations", "Living reservations", ["node_id", "state"])
        self.events = Counter(
            "compute_gpu_reservation_events_total", "Changes of the ledger", ["event"], registry=registry
        )

    def observe(self, view: View, ledger: Ledger, watch: MemoryWatch) -> None:
        for device in view.devices.values():
            self._device(device, ledger, watch)
        for gpu in view.gpus:
            self._gpu(gpu)
        for state in (State.CREATED, State.BOUND):
            living = sum(1 for entry in ledger.entries.values() if entry.state is state)
            self._living.labels(self._node_id, state.value).set(living)

    def _device(self, device: Device, ledger: Ledger, watch: MemoryWatch) -> None:
        name = RAM if device.index is None else str(device.index)
        sums = ledger.balance(device)
        kinds = {
            "total": device.total_mb,
            "used": device.used_mb,
            "reserved": sums.reserved_mb,
            "foreign": sums.foreign_mb,
            "available": sums.available_mb,
        }
        for kind, mib in kinds.items():
            self._memory.labels(self._node_id, name, kind).set(mib * _MIB)
        outlook = watch.outlook(device)
        soon = float("inf") if outlook.oom_seconds is None else outlook.oom_seconds
        self._oom.labels(self._node_id, name).set(soon)
        self._level.labels(self._node_id, name).set(_LEVELS.index(outlook.level))

    def _gpu(self, gpu: GpuReading) -> None:
        name = str(gpu.index)
        self._healthy.labels(self._node_id, name).set(gpu.health == "ok")
        optional = (
            (self._busy, gpu.utilization),
            (self._celsius, gpu.temperature_c),
            (self._watts, gpu.power_w),
        )
        for gauge, value in optional:
            if value is not None:
                gauge.labels(self._node_id, name).set(value)
