"""A host that is lost: its instances are said to be degraded, then planned anew on hosts that are there."""

import time
from collections.abc import Callable

import structlog

from compute_common.bus import Bus
from compute_common.enums import InstanceStatus
from compute_common.lease import Lease, LeaseTerms
from compute_common.times import utc_now
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.moving import Mover, named
from vllm_orchestrator.instances.promise import Promise
from vllm_orchestrator.instances.ranks import Ranks
from vllm_orchestrator.instances.record import LONGEST_ERROR, Record
from vllm_orchestrator.instances.roster import Roster
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.tools import Tools

log = structlog.get_logger("instances")

TERMS = LeaseTerms(bucket="COMPUTE_INSTANCES_LEASE", max_age_seconds=10.0, renew_seconds=2.0)
PLAN_AGAIN_SECONDS = 15


class Takeover:
    """One orchestrator of the cluster, by lease, does it; each record moves by compare-and-set."""

    def __init__(
        self,
        bus: Bus,
        node_id: str,
        *,
        tools: Tools,
        table: InstanceTable,
        mover: Mover,
        announcer: Announcer,
        roster: Roster,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._node_id = node_id
        self._tools = tools
        self._settings = tools.settings
        self._table = table
        self._mover = mover
        self._announcer = announcer
        self._roster = roster
        self._clock = clock
        self._lease = Lease(bus, TERMS, node_id)
        self._lost_since: dict[str, float] = {}
        self._plan_at: dict[str, float] = {}

    async def release(self) -> None:
        """Let another orchestrator keep watch at once."""
        await self._lease.release()

    async def look(self) -> None:
        """One look at the hosts that own instances; call it every `TERMS.renew_seconds`."""
        if not self._bus.connected or not await self._lease.step():
            self._lost_since.clear()
            return
        hosts = {record.instance_name: self._hosts(record) for record in self._table.all()}
        asked = frozenset[str]().union(*hosts.values())
        lost = await self._lost(asked) if asked else {}
        for name, its in hosts.items():
            away = {each: self._clock() - since for each, since in (lost or {}).items() if each in its}
            record = self._table.get(name)
            if away and record is not None:
                await self._follow_loss(record, away)

    def _hosts(self, record: Record) -> frozenset[str]:
        """The other hosts that an instance needs."""
        if record.desired != "ready" or record.attached or record.node_id is None:
            return frozenset()
        needed = {record.node_id, *(part.node_id for part in record.ranks)}
        return frozenset(needed - {self._node_id})

    async def _lost(self, node_ids: frozenset[str]) -> dict[str, float] | None:
        """Lost hosts → since when; None while the registry does not tell."""
        gone = await self._mover.lost(node_ids)
        if gone is None:
            return None
        self._lost_since = {each: self._lost_since.get(each, self._clock()) for each in gone}
        return self._lost_since

    async def _follow_loss(self, known: Record, away: dict[str, float]) -> None:
        """`away`: lost hosts of it, and for how many seconds."""
        own = known.node_id == self._node_id  # its runner says itself that a part is away
        record = known if own else await self._table.fetch(known.instance_name)
        if record is None or record.epoch != known.epoch or not self._hosts(record) & set(away):
            return
        pinned = record.request.get("node_id") is not None
        if record.node_id in away and record.status is not InstanceStatus.DEGRADED:
            log.warning("host lost", instance=record.instance_name, node_id=record.node_id)
            what = "waits for it" if pinned else "moves when it stays away"
            await self._degrade(record, f"node '{record.node_id}' is offline; the instance {what}")
        elif not pinned and max(away.values()) >= self._settings.instance_takeover_seconds:
            await self._move(record, frozenset(away))

    async def _degrade(self, record: Record, reason: str) -> None:
        record = record.model_copy(update={"status": InstanceStatus.DEGRADED})
        record.went_wrong(reason, utc_now())
        if await self._table.replace(record):
            await self._announcer.tell(record)

    async def _move(self, record: Record, away: frozenset[str]) -> None:
        name = record.instance_name
        if self._clock() < self._plan_at.get(name, 0):
            return
        self._plan_at[name] = self._clock() + PLAN_AGAIN_SECONDS
        await self._clear_the_rest(record)
        moved = await self._mover.move(record, away)
        if isinstance(moved, Record):
            self._plan_at.pop(name, None)
        elif moved is not None:
            reason = f"node '{named(away)}' is offline, and no other host takes it: {moved.reason}"
            reason = reason[:LONGEST_ERROR]
            if reason != record.last_error and record.node_id != self._node_id:
                await self._degrade(record, reason)

    async def _clear_the_rest(self, record: Record) -> None:
        """An instance over several hosts is nothing without one: what the others hold of it is free again."""
        if not record.ranks:
            return
        if record.node_id == self._node_id:
            await self._roster.orphan(record)
            return
        await Ranks(record, self._tools).stop()
        await Promise(record, self._tools).release()
