"""Says on NATS that a GPU began to fail, was lost or is well again, and which reservations that concerns."""

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.gpu import GpuHealthChange, ReservationEvent
from compute_common.times import utc_now
from gpu_orchestrator import views
from gpu_orchestrator.health_watch import HealthChange, HealthWatch
from gpu_orchestrator.ledger import Ledger
from gpu_orchestrator.observer import View

log = structlog.get_logger("gpu-health")

MOST_NAMED = 500  # reservations in one event, which must stay below NATS's size limit; states name all


class HealthVoice:
    """What cannot be told while NATS is away is told, once and as it then is, when it is back."""

    def __init__(self, bus: Bus, node_id: str) -> None:
        self._bus = bus
        self._node_id = node_id
        self._watch = HealthWatch()

    async def say(self, view: View, ledger: Ledger) -> None:
        changes = self._watch.observe(view.gpus)
        for change in changes:
            log.warning("gpu health changed", gpu=change.index, health=change.health, before=change.before)
        for change in self._watch.due(changes):
            try:
                await self._bus.publish(subjects.GPU_STATE, self._event(change, view, ledger))
            except Problem:
                return
            self._watch.told(change)

    def _event(self, change: HealthChange, view: View, ledger: Ledger) -> ReservationEvent:
        here = [entry for entry in ledger.entries.values() if change.uuid in entry.devices]
        return ReservationEvent(
            event="health-changed",
            node_id=self._node_id,
            gpu=GpuHealthChange(
                index=change.index,
                uuid=change.uuid,
                health=change.health,
                previous_health=change.before,
                reservations=[
                    views.reservation_health(self._node_id, entry, view) for entry in here[:MOST_NAMED]
                ],
            ),
            timestamp=utc_now(),
        )
