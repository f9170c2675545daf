"""The host's owner wants it back: instances on yielded devices are set aside, and brought back afterwards."""

import asyncio
from contextlib import suppress

import structlog
from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem
from compute_common.schemas.gpu import ReservationEvent, Yields, YieldState
from compute_common.times import rfc3339
from vllm_orchestrator.instances.desk import Desk
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.roster import ENDED
from vllm_orchestrator.instances.table import InstanceTable

log = structlog.get_logger("yields")

LOOK_SECONDS = 5.0  # should the event be lost: 5, 8 to drain and 12 to end lie within the promised 30
ASK_SECONDS = 3
EVENTS = ("yielded", "yield-ended")


class YieldFollower:
    """Does what this host's ledger says is yielded, at its events and by looking every few seconds."""

    def __init__(self, bus: Bus, desk: Desk, table: InstanceTable, node_id: str) -> None:
        self._bus = bus
        self._desk = desk
        self._table = table
        self._node_id = node_id
        self._subject = subjects.gpu_subject("yields", node_id)
        self._wake = asyncio.Event()

    async def on_event(self, body: dict[str, object]) -> None:
        """A change of some host's ledger."""
        event = ReservationEvent.model_validate(body)
        if event.node_id == self._node_id and event.event in EVENTS:
            self._wake.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.look()
            except Exception:
                log.exception("following yields failed")

    async def look(self) -> None:
        """One look at the ledger, and what follows from it; a ledger that is away changes nothing."""
        try:
            found = Yields.model_validate(await self._bus.request(self._subject, {}, ASK_SECONDS))
        except (Problem, ValidationError):
            return
        by_device = {each.gpu_index: each for each in found.yields}
        wanted = [(record, taken(record, by_device)) for record in self._table.own() if not record.attached]
        leaving = [
            (r, each) for r, each in wanted if each and r.status not in (*ENDED, InstanceStatus.PLANNED)
        ]
        back = [record for record, each in wanted if each is None and record.set_aside]
        await asyncio.gather(
            *(
                self._desk.set_aside(record.instance_name, why(self._node_id, each))
                for record, each in leaving
            ),
            *(self._bring_back(record) for record in back),
        )

    async def _bring_back(self, record: Record) -> None:
        try:
            await self._desk.bring_back(record.instance_name)
        except Problem as problem:  # the memory may be another's now; asked again at every look
            log.warning("not brought back yet", instance=record.instance_name, cause=problem.cause)


def taken(record: Record, by_device: dict[int | None, YieldState]) -> YieldState | None:
    """The yield that an instance stands in the way of."""
    for place in record.placement:
        devices: list[int | None] = [*place.gpu_indices] or [None]
        for device in devices:
            if device in by_device:
                return by_device[device]
    return None


def why(node_id: str, state: YieldState) -> str:
    """What the instance says of itself meanwhile."""
    what = "host RAM" if state.gpu_index is None else f"GPU {state.gpu_index}"
    end = "until its owner ends that" if state.until is None else f"until {rfc3339(state.until)}"
    return (
        f"set aside: {what} of {node_id} is yielded to its owner ({state.source}) {end}; it comes back then"
    )
