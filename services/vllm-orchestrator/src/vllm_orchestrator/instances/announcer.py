"""What the cluster hears of this node's instances: every change, and each living one again and again."""

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.vllm import InstanceEvent
from compute_common.times import utc_now
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.table import InstanceTable

log = structlog.get_logger("instances")
QUIET = (InstanceStatus.STOPPED, InstanceStatus.FAILED)


class Announcer:
    """Keeps a record and publishes `compute.vllm.instance.v1`; while NATS is away both are made up later."""

    def __init__(self, bus: Bus, table: InstanceTable, node_id: str) -> None:
        self._bus = bus
        self._table = table
        self._node_id = node_id

    async def changed(self, record: Record) -> None:
        """Keep the record, then tell."""
        await self._table.save(record)
        await self.tell(record)

    async def tell(self, record: Record, event: str | None = None) -> None:
        message = InstanceEvent(
            event=event or record.status.value,
            node_id=record.node_id or self._node_id,
            instance=record.public(),
            timestamp=utc_now(),
        )
        try:
            await self._bus.publish(subjects.VLLM_INSTANCE, message)
        except Problem:
            log.debug("event not sent: nats is away", instance=record.instance_name)

    async def repeat(self) -> None:
        """Tell of every instance of this node again that lives or can be woken."""
        for record in self._table.own():
            if record.status not in QUIET or record.wakeable:
                await self.tell(record)
