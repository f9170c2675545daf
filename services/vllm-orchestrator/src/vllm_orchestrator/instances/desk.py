"""Deploy, start, stop, remove: what clients ask of this host's instances."""

from contextlib import suppress
from dataclasses import replace

import structlog

from compute_common import subjects
from compute_common.bus import Bus
from compute_common.enums import InstanceStatus
from compute_common.problems import Problem, conflict, not_found, unavailable
from compute_common.schemas.vllm import DeployAnswer, DeployRequest, Instance, StopAnswer
from compute_common.times import utc_now
from vllm_orchestrator.instances import launch
from vllm_orchestrator.instances.adoption import Adoption
from vllm_orchestrator.instances.announcer import Announcer
from vllm_orchestrator.instances.answers import begin, record_of, refusal
from vllm_orchestrator.instances.moving import Mover
from vllm_orchestrator.instances.planner import ANYWHERE, Berth, Planner, berth_of
from vllm_orchestrator.instances.record import Record, default_name, request_of
from vllm_orchestrator.instances.roster import ENDED, Roster
from vllm_orchestrator.instances.runner import AWAY, Runner
from vllm_orchestrator.instances.table import InstanceTable
from vllm_orchestrator.instances.tools import Tools
from vllm_orchestrator.planning.result import NoFit, Plan
from vllm_orchestrator.planning.several_hosts import RAY_WORDS, headed_by, joined_by_ray
from vllm_orchestrator.schemas import StartOrder

log = structlog.get_logger("desk")

FORWARD_SECONDS = 30
NAME_TRIES = 8
SET_ASIDE_SECONDS = 8.0  # the owner has the host back within 30 s


class Desk:
    """One lock per name, so that two requests for one instance never cross."""

    def __init__(
        self,
        bus: Bus,
        node_id: str,
        *,
        planner: Planner,
        table: InstanceTable,
        roster: Roster,
        adoption: Adoption,
        tools: Tools,
        announcer: Announcer,
        mover: Mover,
    ) -> None:
        self._bus = bus
        self._node_id = node_id
        self._planner = planner
        self._table = table
        self._roster = roster
        self._adoption = adoption
        self._tools = tools
        self._announcer = announcer
        self._mover = mover

    # --- deploy

    async def deploy(self, request: DeployRequest, berth: Berth = ANYWHERE) -> tuple[int, DeployAnswer]:
        """(202, the instance that now starts) or (200, the one that runs, or the plan of a dry run)."""
        if request.node_id not in (None, self._node_id) and not request.dry_run:
            return 202, await self._forward(request.node_id, request, berth)
        for _try in range(NAME_TRIES):
            name = request.instance_name or default_name(request.model_name, self._table.names())
            async with self._roster.lock(name):
                existing = self._table.get(name)
                if existing is not None and not request.dry_run:
                    answer = await self._again(existing, request)
                    if answer is not None:
                        return answer
                done = await self._deploy(name, request, existing, berth)
            if done is not None:
                return done
        raise unavailable("contended", "other deployments took the names that were tried; try again")

    async def _deploy(
        self, name: str, request: DeployRequest, existing: Record | None, berth: Berth
    ) -> tuple[int, DeployAnswer] | None:
        """None when somebody else took the name this moment: look again."""
        found = await self._planner.find(request, berth)
        if isinstance(found, NoFit):
            raise refusal(found)
        found = headed_by(found, self._node_id)
        record = record_of(found, request, name, self._tools.settings, utc_now(), replica_of=berth.replica_of)
        if request.dry_run:
            return 200, _answer(record, request)
        if request.auto_start:
            if joined_by_ray(found):
                raise conflict("not-started-here", f"{record.model_name}: {RAY_WORDS}")
            if record.node_id != self._node_id:
                if berth.only is not None:
                    raise unavailable("contended", "the hosts changed while they were asked; try again")
                named = request.model_copy(update={"instance_name": name})
                return 202, await self._forward(record.node_id, named, _at_head(berth, found))
            await launch.equip(record, self._tools)
            await self._tools.models.check(record)
            launch.give_port(record, self._tools)
            begin(record)
        if existing is not None:
            record.epoch = existing.epoch + 1
        taken = await (self._table.claim(record) if existing is None else self._table.replace(record))
        if not taken:
            return None
        if request.auto_start:
            await self._launch(record, existing)
        else:
            await self._announcer.tell(record)
        return 202, _answer(record, request)

    async def _again(self, existing: Record, request: DeployRequest) -> tuple[int, DeployAnswer] | None:
        """The answer for a name that is taken; None when its record is to be replaced."""
        here = existing.node_id == self._node_id
        ended = existing.status in (*ENDED, InstanceStatus.PLANNED)
        same = existing.request == request_of(request) and not existing.attached
        if not same:
            if here and existing.status in ENDED:
                return None
            raise _taken(existing, request)
        if request.auto_start and ended:
            if here:
                return None  # planned anew: the host may have changed since
            await self._start_there(existing)
            return 202, _answer(existing, request)
        return 200, _answer(existing, request)

    async def _launch(self, record: Record, before: Record | None) -> None:
        """Reserve, then supervise; a refused reservation leaves what was there before."""
        runner = Runner(record, self._tools)
        try:
            await runner.reserve()
        except BaseException:
            if before is None:
                await self._table.remove(record.instance_name)
            else:
                before.epoch = record.epoch
                await self._table.save(before)
            raise
        await self._announcer.changed(record)
        self._roster.supervise(runner)

    async def _forward(self, node_id: str | None, request: DeployRequest, berth: Berth) -> DeployAnswer:
        """Let the host's own orchestrator do it."""
        body = StartOrder(
            deploy=request, avoid=list(berth.avoid), among=list(berth.among), replica_of=berth.replica_of
        )
        try:
            answer = await self._bus.request(
                subjects.vllm_subject("start", node_id or ""), body, FORWARD_SECONDS
            )
        except Problem as problem:
            if problem.cause != "no-responder":
                raise
            detail = f"no orchestrator answers on node '{node_id}'; is that host up, and is the id right?"
            raise not_found("unknown-node", detail) from problem
        return DeployAnswer.model_validate(answer)

    # --- start, stop, remove

    async def start(self, name: str) -> Instance:
        """Start a planned, stopped or failed instance; one that runs is left as it is.

        Its host does it; another one does, where that host is lost and the request does not name it.
        """
        record = self.require(name)
        if record.node_id != self._node_id:
            try:
                return await self._start_there(record)
            except Problem as problem:
                moved = await self._moved(record) if problem.cause in AWAY else None
                if moved is None:
                    raise
                return moved.public()
        if record.attached:
            raise conflict("attached", "an attached server is not started or stopped from here")
        if record.desired == "ready":  # handed over by one that took it from a lost host
            await self._adoption.take_up(name, [])
        elif record.status in (*ENDED, InstanceStatus.PLANNED):
            request = DeployRequest.model_validate({**record.request, "instance_name": name})
            await self.deploy(request, self._berth(record))
        return self.require(name).public()

    async def stop(self, name: str, *, remove: bool) -> StopAnswer:
        """End the engine and give its memory back; with `remove` forget the record too."""
        record = self.require(name)
        if record.node_id != self._node_id:
            return await self._stop_there(record, remove)
        async with self._roster.lock(name):
            record = self.require(name)
            self._require_nats()
            if not record.attached:
                record.desired = "removed" if remove else "stopped"
                record.wakeable = record.set_aside = False
                record.stop_reason = "asked to stop"
                await self._roster.end(record, self._tools.settings.engine_drain_seconds)
            if remove or record.attached:
                await self._table.remove(name)
                await self._announcer.tell(record, "removed")
        return StopAnswer(instance_name=name, instance_id=name)

    async def set_aside(self, name: str, reason: str) -> None:
        """Drain and stop an instance of this host for its owner's sake; `bring_back` undoes it."""
        async with self._roster.lock(name):
            record = self._table.get(name)
            if record is None or record.status in ENDED:
                return
            log.info("instance set aside", instance=name, reason=reason)
            record.set_aside, record.desired = True, "stopped"
            record.went_wrong(reason, utc_now())
            await self._roster.end(record, SET_ASIDE_SECONDS)

    async def bring_back(self, name: str) -> None:
        """Start an instance that was set aside, planned anew; a refusal leaves it set aside."""
        record = self._table.get(name)
        if record is not None and record.set_aside:
            await self.start(name)

    async def _start_there(self, record: Record) -> Instance:
        subject = subjects.vllm_subject("start", record.node_id or "")
        answer = await self._bus.request(subject, {"instance_name": record.instance_name}, FORWARD_SECONDS)
        return Instance.model_validate(answer)

    async def _moved(self, record: Record) -> Record | None:
        """A resting instance of a lost host, on another one; None where it stays. Problem 409 for no fit."""
        node_id, resting = record.node_id or "", (*ENDED, InstanceStatus.PLANNED, InstanceStatus.STOPPING)
        movable = record.desired != "ready" and record.status in resting and not record.attached
        if not movable or record.request.get("node_id") is not None:
            return None
        if not await self._mover.lost({node_id}):
            return None
        record = await self._table.fetch(record.instance_name) or record
        if record.node_id != node_id or record.status not in resting:
            return None
        moved = await self._mover.move(record, {node_id})
        if isinstance(moved, NoFit):
            raise refusal(replace(moved, reason=f"its node '{node_id}' is offline: {moved.reason}"))
        return moved

    async def _stop_there(self, record: Record, remove: bool) -> StopAnswer:
        subject = subjects.vllm_subject("stop", record.node_id or "")
        settings = self._tools.settings
        patience = FORWARD_SECONDS + settings.engine_drain_seconds + settings.engine_stop_seconds
        body = {"instance_name": record.instance_name, "remove": remove}
        return StopAnswer.model_validate(await self._bus.request(subject, body, patience))

    def _berth(self, record: Record) -> Berth:
        return berth_of(record, self._table.all())

    def _require_nats(self) -> None:
        if not self._bus.connected:
            raise unavailable("nats-unavailable", "NATS is not connected; the record cannot be changed now")

    async def find(self, name: str) -> Record:
        """As `require`, also where another host made the instance this moment."""
        if self._table.get(name) is None:
            with suppress(Problem):  # without NATS, what is known here is all there is
                await self._table.fetch(name)
        return self.require(name)

    def require(self, name: str) -> Record:
        """The record, wherever its instance runs. Problem 404."""
        record = self._table.get(name)
        if record is None:
            raise not_found("unknown-instance", f"there is no instance '{name}'; see /api/v1/vllm/instances")
        return record


def _at_head(berth: Berth, found: Plan) -> Berth:
    """For the orchestrator at the head of a plan over several hosts, so that it plans on just these."""
    hosts = tuple(place.node_id for place in found.places)
    return replace(berth, among=hosts) if len(hosts) > 1 else berth


def _answer(record: Record, request: DeployRequest) -> DeployAnswer:
    answer = DeployAnswer.model_validate(record.model_dump())
    return answer.model_copy(update={"request_id": request.request_id})


def _taken(existing: Record, request: DeployRequest) -> Problem:
    name = existing.instance_name
    wanted = request_of(request)
    differs = sorted(
        key for key in {*wanted, *existing.request} if wanted.get(key) != existing.request.get(key)
    )
    return conflict(
        "instance-exists",
        f"the instance '{name}' exists with another request (it differs in {', '.join(differs) or 'kind'}):"
        " choose another instance_name, or DELETE it first",
    )
