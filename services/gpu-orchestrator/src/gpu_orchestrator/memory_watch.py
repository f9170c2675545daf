"""Follows RAM and every GPU second by second; answers the forecast and warns when a level changes."""

from collections.abc import Callable

from compute_common.enums import MemoryLevel
from compute_common.schemas.gpu import GpuMemoryForecast, MemoryAnswer, MemoryWarning
from compute_common.times import utc_now
from gpu_orchestrator.devices import Device
from gpu_orchestrator.entries import RAM
from gpu_orchestrator.forecast import LEVELS, Floors, Outlook, Sample, Track, follow
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.observer import View

WARNING_SECONDS = 60.0  # the same level of the same device is told at most once a minute


class MemoryWatch:
    """One track a device, over the ledger, so that promised memory counts as gone."""

    def __init__(self, node_id: str, ledger: Callable[[], Ledger]) -> None:
        self._node_id = node_id
        self._ledger = ledger
        self._tracks: dict[str, Track] = {}
        self._told: dict[str, MemoryLevel] = {}
        self._told_at: dict[tuple[str, MemoryLevel], float] = {}

    def outlook(self, device: Device) -> Outlook:
        return self._tracks.get(device.key, Track()).outlook

    def node_level(self) -> MemoryLevel:
        """How the whole host is: RAM, and every GPU that is filling up.

        A GPU that is full and stays so (an engine took it all) is no reason to keep work from the host.
        """
        levels = [
            track.outlook.level
            for key, track in self._tracks.items()
            if key == RAM or track.outlook.oom_seconds is not None
        ]
        return max(levels, key=LEVELS.index, default=MemoryLevel.OK)

    def observe(self, view: View) -> list[MemoryWarning]:
        """Take the look in, and return the warnings that are due."""
        self._tracks = {
            device.key: self._followed(device, view.taken_at)
            for device in view.devices.values()
            if device.health == "ok"  # of a lost GPU nothing is known
        }
        due = (self._due(device, view.taken_at) for device in view.devices.values())
        return [warning for warning in due if warning is not None]

    def _followed(self, device: Device, now: float) -> Track:
        of_ram = device.key == RAM or RAM in device.pool  # an integrated GPU has no memory but the system's
        floors = Floors.of_ram(device.total_mb) if of_ram else Floors.of_gpu()
        committed = self._ledger().balance(device).committed_mb
        sample = Sample(now, device.total_mb - device.used_mb, device.total_mb - committed)
        return follow(self._tracks.get(device.key, Track()), sample, floors)

    def answer(self, view: View) -> MemoryAnswer:
        ram = view.ram
        outlook = self.outlook(view.devices[RAM])
        return MemoryAnswer(
            node_id=self._node_id,
            total_mb=ram.total_mb,
            available_mb=ram.available_mb,
            swap_total_mb=ram.swap_total_mb,
            swap_free_mb=ram.swap_free_mb,
            pressure=ram.pressure,
            trend_mb_per_s=outlook.trend_mb_per_s,
            predicted_oom_seconds=outlook.oom_seconds,
            predicted_oom_range_seconds=outlook.oom_range,
            confidence=outlook.confidence,
            level=outlook.level,
            gpus=[self._gpu(device) for device in view.devices.values() if device.index is not None],
            timestamp=utc_now(),
        )

    def _gpu(self, device: Device) -> GpuMemoryForecast:
        outlook = self.outlook(device)
        return GpuMemoryForecast(
            index=device.index or 0,
            total_mb=device.total_mb,
            available_mb=max(0, device.total_mb - device.used_mb),
            trend_mb_per_s=outlook.trend_mb_per_s,
            predicted_oom_seconds=outlook.oom_seconds,
            predicted_oom_range_seconds=outlook.oom_range,
            confidence=outlook.confidence,
            level=outlook.level,
        )

    def _due(self, device: Device, now: float) -> MemoryWarning | None:
        outlook = self.outlook(device)
        before = self._told.get(device.key, MemoryLevel.OK)
        last = self._told_at.get((device.key, outlook.level))
        if outlook.level is before or (last is not None and now - last < WARNING_SECONDS):
            return None
        self._told[device.key] = outlook.level
        self._told_at[device.key, outlook.level] = now
        return MemoryWarning(
            node_id=self._node_id,
            gpu_index=device.index,
            level=outlook.level,
            previous_level=before,
            available_mb=max(0, device.total_mb - device.used_mb),
            predicted_oom_seconds=outlook.oom_seconds,
            timestamp=utc_now(),
        )
