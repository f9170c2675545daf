"""An instance whose host is lost is planned anew on hosts that are there: one compare-and-set moves it."""

from collections.abc import Collection

import structlog
from pydantic import ValidationError

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.problems import Problem
from compute_common.schemas.node import Node
from compute_common.schemas.vllm import DeployRequest
from compute_common.times import utc_now
from vllm_orchestrator.instances.adoption import Adoption
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.answers import begin, record_of
from vllm_orchestrator.instances.planner import Planner, berth_of
from vllm_orchestrator.instances.record import Record
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.planning.result import NoFit

log = structlog.get_logger("instances")

ASK_SECONDS = 2


class Mover:
    """A host is lost when the registry says that it is offline and its orchestrator does not answer: one that
    is merely started again, or whose registry entry went, keeps its instances."""

    def __init__(
        self,
        bus: Bus,
        *,
        tools: Tools,
        table: InstanceTable,
        planner: Planner,
        announcer: Announcer,
        adoption: Adoption,
    ) -> None:
        self._bus = bus
        self._tools = tools
        self._table = table
        self._planner = planner
        self._announcer = announcer
        self._adoption = adoption

    async def lost(self, node_ids: Collection[str]) -> frozenset[str] | None:
        """Those of the hosts that are lost; None while the registry does not tell."""
        ask = {"online_only": False, "status": "offline", "include_draining": True}
        try:
            answer = await self._bus.request(subjects.NODES_QUERY, ask, ASK_SECONDS)
            offline = {Node.model_validate(node).node_id for node in answer.get("nodes", [])}
        except (Problem, ValidationError, TypeError):
            return None
        return frozenset({each for each in offline.intersection(node_ids) if not await self._answers(each)})

    async def move(self, record: Record, away: Collection[str]) -> Record | NoFit | None:
        """Plan it anew without the hosts `away`, and let its new host start it.

        None when that has to be looked at again: the plan still counts on them, or the record changed.
        """
        name = record.instance_name
        request = DeployRequest.model_validate({**record.request, "instance_name": name})
        try:
            found = await self._planner.find(request, berth_of(record, self._table.all()))
        except Problem as problem:
            found = NoFit(problem.detail)
        if isinstance(found, NoFit):
            return found
        settings, at = self._tools.settings, record.created_at
        moved = record_of(found, request, name, settings, at, replica_of=record.replica_of)
        if any(place.node_id in away for place in moved.placement):
            return None
        moved.epoch, moved.restarts = record.epoch + 1, record.restarts + 1
        moved.went_wrong(f"node '{named(away)}' went offline", utc_now())
        begin(moved)
        if not await self._table.replace(moved):
            return None
        log.warning("instance moves", instance=name, lost=sorted(away), to=moved.node_id)
        await self._announcer.tell(moved)
        await self._hand_over(moved)
        return moved

    async def _answers(self, node_id: str) -> bool:
        try:
            await self._bus.request(subjects.vllm_subject("status", node_id), {}, ASK_SECONDS)
        except Problem:
            return False
        return True

    async def _hand_over(self, record: Record) -> None:
        """Its new host finds it in the bucket sooner or later; this is sooner."""
        if record.node_id == self._tools.node_id:
            await self._adoption.take_up(record.instance_name, [])
            return
        body = {"instance_name": record.instance_name}
        try:
            await self._bus.request(subjects.vllm_subject("start", record.node_id or ""), body, ASK_SECONDS)
        except Problem as problem:
            log.warning("not handed over yet", instance=record.instance_name, cause=problem.cause)


def named(away: Collection[str]) -> str:
    """Node ids in words, between quotes of the caller."""
    return "', '".join(sorted(away))
