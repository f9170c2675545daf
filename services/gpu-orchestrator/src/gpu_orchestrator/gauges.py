"""What Prometheus sees of memory and of the ledger."""

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge

from compute_common.enums import MemoryLevel
from gpu_orchestrator.devices import Device, GpuReading
from gpu_orchestrator.entries import RAM, State
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.memory_watch import MemoryWatch
from gpu_orchestrator.observer import View

_MIB = 1024 * 1024
_LEVELS = list(MemoryLevel)
_KINDS = ("total", "used", "reserved", "foreign", "available")


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
        self._most_watts = gauge("compute_gpu_power_limit_watts", "What a GPU may draw", of_device)
        self._healthy = gauge("compute_gpu_healthy", "1 while the GPU answers", of_device)
        self._living = gauge("compute_gpu_reservations", "Living reservations", ["node_id", "state"])
        self.events = Counter(
            "compute_gpu_reservation_events_total", "Changes of the ledger", ["event"], registry=registry
        )
        of_gpu = (self._busy, self._celsius, self._watts, self._most_watts, self._healthy)
        self._of_device = (self._oom, self._level, *of_gpu)
        self._known: set[str] = set()

    def observe(self, view: View, ledger: Ledger, watch: MemoryWatch) -> None:
        cut = {gpu.index for gpu in view.gpus if not gpu.schedulable}  # such a card counts as its slices
        devices = [device for device in view.devices.values() if device.index not in cut]
        self._forget({_name(device.index) for device in devices})
        for device in devices:
            self._device(device, ledger, watch)
        for gpu in view.gpus:
            self._gpu(gpu)
        for state in (State.CREATED, State.BOUND):
            living = sum(1 for entry in ledger.entries.values() if entry.state is state)
            self._living.labels(self._node_id, state.value).set(living)

    def _device(self, device: Device, ledger: Ledger, watch: MemoryWatch) -> None:
        name = _name(device.index)
        sums = ledger.balance(device)
        available_mb = sums.available_mb if ledger.usable(device) else 0
        sizes = (device.total_mb, device.used_mb, sums.reserved_mb, sums.foreign_mb, available_mb)
        for kind, mib in zip(_KINDS, sizes, strict=True):
            self._memory.labels(self._node_id, name, kind).set(mib * _MIB)
        outlook = watch.outlook(device)
        soon = float("inf") if outlook.oom_seconds is None else outlook.oom_seconds
        self._oom.labels(self._node_id, name).set(soon)
        self._level.labels(self._node_id, name).set(_LEVELS.index(outlook.level))

    def _forget(self, names: set[str]) -> None:
        """A slice that was destroyed, or a card that was cut, has no memory any more."""
        for name in self._known - names:
            for gauge in self._of_device:
                _drop(gauge, self._node_id, name)
            for kind in _KINDS:
                _drop(self._memory, self._node_id, name, kind)
        self._known = names

    def _gpu(self, gpu: GpuReading) -> None:
        name = str(gpu.index)
        self._healthy.labels(self._node_id, name).set(gpu.health == "ok")
        optional = (
            (self._busy, gpu.utilization),
            (self._celsius, gpu.temperature_c),
            (self._watts, gpu.power_w),
            (self._most_watts, gpu.power_limit_w),
        )
        for gauge, value in optional:
            if value is not None:
                gauge.labels(self._node_id, name).set(value)
            else:
                _drop(gauge, self._node_id, name)


def _name(index: int | None) -> str:
    return RAM if index is None else str(index)


def _drop(gauge: Gauge, *labels: str) -> None:
    """No series is better than the last value of what is gone."""
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)
