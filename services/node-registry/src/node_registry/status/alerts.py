"""Memory that runs out: the warnings of GPU orchestrators, and the levels that heartbeats carry. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from compute_common.enums import MemoryLevel
from compute_common.schemas.gpu import MemoryWarning
from node_registry.answers import memory_level
from node_registry.rows import Row
from node_registry.status.models import MOST_WARNINGS, MemoryAlert

MOST_KEPT = 4096
SETTLED_SECONDS = 20.0  # heartbeats say ok for so long: the message that took a warning back was missed
_BAD = (MemoryLevel.WARN, MemoryLevel.CRITICAL)


@dataclass(frozen=True, slots=True)
class _Heard:
    warning: MemoryWarning
    mono: float
    wall: datetime


class MemoryAlerts:
    """The last warning of each device that is not well."""

    def __init__(self) -> None:
        self._heard: dict[tuple[str, int | None], _Heard] = {}

    def hear(self, warning: MemoryWarning, mono: float, wall: datetime) -> None:
        """Keep a warning, or drop the one it takes back."""
        key = (warning.node_id, warning.gpu_index)
        self._heard.pop(key, None)
        if warning.level not in _BAD:
            return
        if len(self._heard) >= MOST_KEPT:
            del self._heard[next(iter(self._heard))]
        self._heard[key] = _Heard(warning, mono, wall)

    def now(self, rows: Iterable[Row], mono: float) -> list[MemoryAlert]:
        """Of online nodes, the worst first; what is over is forgotten."""
        online = {row.node_id: row for row in rows if row.is_online}
        self._heard = {
            key: heard for key, heard in self._heard.items() if _holds(heard, online.get(key[0]), mono)
        }
        told = {node_id for node_id, _gpu in self._heard}
        alerts = [_alert(heard) for heard in self._heard.values()]
        alerts += [
            MemoryAlert(node_id=node_id, level=level)
            for node_id, row in online.items()
            if node_id not in told and (level := memory_level(row)) in _BAD
        ]
        return sorted(alerts, key=_order)[:MOST_WARNINGS]


def _holds(heard: _Heard, row: Row | None, mono: float) -> bool:
    if row is None:
        return False
    beat = row.record.beat
    well = beat is not None and beat.memory_level in (MemoryLevel.OK, MemoryLevel.WATCH)
    return not well or mono - heard.mono < SETTLED_SECONDS


def _alert(heard: _Heard) -> MemoryAlert:
    warning = heard.warning
    return MemoryAlert(
        node_id=warning.node_id,
        gpu_index=warning.gpu_index,
        level=warning.level,
        available_mb=warning.available_mb,
        predicted_oom_seconds=warning.predicted_oom_seconds,
        since=heard.wall,
    )


def _order(alert: MemoryAlert) -> tuple[bool, float, str, int]:
    soon = alert.predicted_oom_seconds
    index = -1 if alert.gpu_index is None else alert.gpu_index
    return (
        alert.level is not MemoryLevel.CRITICAL,
        float("inf") if soon is None else soon,
        alert.node_id,
        index,
    )
